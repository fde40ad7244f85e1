"""Moonshine's decoding: one token a step, always the likeliest, with the attention's keys and values kept.

Lives here: what goes into each step, what is kept of its answer, and when to stop. Not here: running the graph, which
the servicer does, and text (`vocabulary`).
Source: "Moonshine: Speech Recognition for Live Transcription and Voice Commands" (2024), and the published merged
decoder, which computes the encoder's keys and values in its first step and answers with empty ones afterwards.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from services.speech.pipeline.constants import RecognizerConstants

Tensors = dict[str, NDArray[np.generic]]


class GreedyDecoding:
    """The decoding of one stretch: `inputs()` for a step, `take(answer)` for what came of it, until `finished`."""

    def __init__(self, constants: RecognizerConstants, *, hidden: NDArray[np.float32], samples: int) -> None:
        """Begin with the encoder's answer `hidden` [1, S, D] for a stretch of `samples` samples."""
        self._constants = constants
        self._tokens: list[int] = []
        seconds = samples / constants.sample_rate
        self._max_steps = max(constants.min_token_cap, math.ceil(seconds * constants.max_tokens_per_second))
        nothing = np.zeros((1, constants.heads, 0, constants.head_dim), np.float32)
        self._inputs: Tensors = {
            "encoder_hidden_states": hidden,
            # Of the raw audio's length: the graph works out how many states that makes.
            "encoder_attention_mask": np.ones((1, samples), np.int64),
            "input_ids": np.array([[constants.bos_id]], np.int64),
            "use_cache_branch": np.array([False]),
        }
        self._inputs.update(
            (f"past_key_values.{layer}.{side}.{part}", nothing)
            for layer in range(constants.layers)
            for side in ("decoder", "encoder")
            for part in ("key", "value")
        )
        self._kept = {
            name.replace("past_key_values", "present"): name
            for name in self._inputs
            if name.startswith("past_")
        }
        self.finished = False
        self.stopped_early = False

    @property
    def tokens(self) -> Sequence[int]:
        """What was decoded so far, without marks of beginning and end."""
        return tuple(self._tokens)

    def inputs(self) -> Tensors:
        """Give the tensors of the next step."""
        return self._inputs

    def take(self, answer: Mapping[str, NDArray[np.generic]]) -> None:
        """Take the answer of a step: `logits` [1, 1, V] and the `present.*` keys and values."""
        token = int(np.argmax(answer["logits"][0, -1]))
        if token == self._constants.eos_id:
            self.finished = True
            return
        self._tokens.append(token)
        repeated = repeated_tail(self._tokens, self._constants)
        if repeated:
            del self._tokens[-repeated:]
        if repeated or len(self._tokens) >= self._max_steps:
            self.finished = self.stopped_early = True
            return
        self._inputs = {
            **self._inputs,
            **{past: answer[present] for present, past in self._kept.items()},
            "input_ids": np.array([[token]], np.int64),
            "use_cache_branch": np.array([True]),
        }
        # After the first step the encoder's keys and values come back empty: keep those we have.
        self._kept = {present: past for present, past in self._kept.items() if ".encoder." not in past}


def repeated_tail(tokens: Sequence[int], constants: RecognizerConstants) -> int:
    """Count the tokens at the end that only repeat what stands before them; 0 if the model is not going in circles.

    Circles are `repeat_min_count` or more copies of a period of up to `repeat_max_period` tokens that make up at least
    `repeat_min_tokens`; all copies but the first are counted.
    """
    for period in range(1, constants.repeat_max_period + 1):
        copies = 1
        while (copies + 1) * period <= len(tokens) and (
            tokens[len(tokens) - (copies + 1) * period : len(tokens) - copies * period]
            == tokens[len(tokens) - period :]
        ):
            copies += 1
        if copies >= constants.repeat_min_count and copies * period >= constants.repeat_min_tokens:
            return (copies - 1) * period
    return 0
