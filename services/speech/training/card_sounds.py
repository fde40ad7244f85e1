"""What is measured for the card of the sounds model: baselines, conditions, kinds and origins.

Not here: the making of the artifact (`release_sounds`), how a card is laid out (`shared.training.card`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from services.speech.training import train_sounds
from services.speech.training.augmentation.waveform import rms
from services.speech.training.conditions import CONDITIONS, change_all
from services.speech.training.forms import Forms, run_graph
from services.speech.training.train_sounds import LABELS, RECIPE, Trained
from shared.inference.manifest import Made
from shared.training.card.content import Calibration, Card, Rival, Test
from shared.training.evaluation.baseline import linear, majority, nearest_neighbour
from shared.training.evaluation.calibration import reliability, softmax
from shared.training.evaluation.interval import wilson
from shared.training.evaluation.metrics import Metrics, calibration_error, measure
from shared.training.evaluation.paired import compare
from shared.training.evaluation.slices import Slice, cut

LIMITS = (
    "What stands out in 1.5 s is what is named: speech over music is either, and a change within a clip is averaged away.",
    "Music is five instrumental pieces without singing, played over the telephone: songs, other genres and instruments were "
    "never measured. Five pieces are too few to say how it does on the sixth.",
    "Speech is read by seven voices in studios; shouting, whispering, children, crowds and radio plays were never measured.",
    "Noises are mostly made ones, and the sounds of a desktop, of which the melodious (bells, jingles) may count as music.",
    "Above 4 kHz nothing is heard: clips are brought to the telephone's rate first.",
    "Finding when somebody speaks is not its task: DetectSpeech is more exact and knows every 32 ms.",
)


def features_of(network: train_sounds.SoundClassifier, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean and spread of each band's energy over a window, for baselines: [windows, 2 bands]."""
    with torch.no_grad():
        parts = [
            network.front(torch.from_numpy(windows[at : at + 256])).cpu().numpy()
            for at in range(0, len(windows), 256)
        ]
    energies = np.concatenate(parts)
    return np.concatenate([energies.mean(axis=2), energies.std(axis=2)], axis=1)


def answer_baselines(trained: Trained) -> dict[str, NDArray[np.int64]]:
    """What simpler models say of a fold's windows, having learned from its recordings as they are."""
    windows, owners = train_sounds.prepare(trained.data.train)
    truth = np.array([LABELS.index(trained.data.train[owner].label) for owner in owners], np.int64)
    watched, watched_owners = train_sounds.prepare(trained.data.watch)
    windows = np.concatenate([windows, watched])
    truth = np.concatenate(
        [truth, [LABELS.index(trained.data.watch[owner].label) for owner in watched_owners]]
    )
    learnt, seen = (features_of(trained.network, part) for part in (windows, trained.windows))
    found = [
        majority(truth, len(seen)),
        linear(learnt, truth, seen, strength=0.1),
        nearest_neighbour(learnt, truth, seen),
    ]
    return {baseline.name: baseline.answers for baseline in found}


def measure_conditions(trained: Trained, graph: bytes) -> list[Slice]:
    """Accuracy on the fold's clips made harder, worst first; noise and slower or faster ones are for speech and music."""
    clips = [clip for clip in trained.data.test if clip.label != train_sounds.NOISE and rms(clip.samples) > 0]
    correct, keys = [], []
    for condition in CONDITIONS:
        changed = [
            replace(clip, samples=samples)
            for clip, samples in zip(
                clips, change_all([clip.samples for clip in clips], condition), strict=True
            )
        ]
        rows, owners = train_sounds.prepare(changed)
        answers = run_graph(graph, rows).argmax(1)
        correct.append(answers == [LABELS.index(clips[owner].label) for owner in owners])
        keys += [condition] * len(owners)
    return cut(np.concatenate(correct), keys)


def describe_card(
    folds: dict[int, Trained], served: int, forms: Forms, made: Made, temperature: float
) -> tuple[Card, Metrics]:
    """The card, and the figures of all folds' windows together."""
    own = folds[served]
    truth = np.concatenate([one.truth for one in folds.values()])
    scores = np.concatenate([softmax(one.logits) for one in folds.values()])
    pooled = measure(truth, scores, LABELS)
    rows = [one.data.test[owner] for one in folds.values() for owner in one.owners]
    clusters = np.array([f"{clip.label} {clip.voice}" for clip in rows])
    baselines: dict[str, list[NDArray[np.int64]]] = {}
    for one in folds.values():
        for name, answers in answer_baselines(one).items():
            baselines.setdefault(name, []).append(answers)
    rivals = []
    for name, parts in baselines.items():
        correct = np.concatenate(parts) == truth
        rivals.append(
            Rival(
                name,
                wilson(int(correct.sum()), len(truth)),
                compare(pooled.correct, correct, clusters=clusters),
            )
        )
    recorded = np.array([clip.real for clip in rows])
    card = Card(
        name=RECIPE,
        title="Says whether a clip is speech, music or noise, from 1.5 s on; the scores of longer clips are averaged.",
        labels=LABELS,
        tests=[
            Test(
                f"{len(folds)} folds, each of voices, pieces and sounds that its network never heard",
                pooled,
                rivals,
                f"Windows of 1.5 s, half of them overlapping; {int(recorded.sum())} are recordings, the others noises made "
                "by generators that training never used. Windows of one piece are alike, so believe the intervals of the "
                "comparisons, which draw whole voices and pieces, more than those of the shares. The network that is "
                f"served is fold {served}'s.",
            )
        ],
        made=made,
        data=[
            "Speech: prompts of the Debian packages asterisk-core-sounds-{en,es,fr,it}-wav (CC-BY-SA-3.0), -ru-wav "
            "(CC-BY-3.0), asterisk-prompt-it-menardi-wav (CC-BY-SA-3.0), -fr-armelle (BSD-2-Clause). "
            "asterisk-prompt-es-co (GPL-2.0) is judged by only.",
            "Music: asterisk-moh-opsound-wav, five pieces (CC-BY-SA-3.0).",
            "Noise: sound-theme-freedesktop (CC-BY-SA-3.0 and others by file), and noises made by the script.",
        ],
        license="CC-BY-SA-3.0: the weights are made from recordings under it; whoever takes that to cover weights is on the "
        "safe side by passing them on under the same terms",
        limits=LIMITS,
        calibration=Calibration(
            reliability(own.truth, softmax(own.logits)),
            before=calibration_error(own.truth, softmax(own.logits, 1 / temperature)),
            after=calibration_error(own.truth, softmax(own.logits)),
            temperature=temperature,
        ),
        slices={
            "kind and origin": cut(
                pooled.correct,
                [f"{clip.label}, {clip.source if clip.label != 'speech' else clip.voice}" for clip in rows],
                at_least=10,
            ),
            "piece of music": cut(
                pooled.correct[[clip.label == "music" for clip in rows]],
                [clip.voice for clip in rows if clip.label == "music"],
                at_least=10,
            ),
            "condition (speech and music)": measure_conditions(own, forms.contents[forms.chosen]),
        },
        fairness="Of the seven voices one is a man's; by voice stands above. Languages are told apart nowhere, and none but "
        "English, Spanish, French, Italian and Russian was heard.",
        points=forms.points,
        parity=forms.parity,
        training="Log-mel energies (40 bands to 3.6 kHz, 25 ms every 15 ms) inside the graph; a small residual network over "
        "frequency and time; cross-entropy with smoothed labels, AdamW, cosine. Items are drawn evenly by kind and by "
        "voice, piece or sound, played up to 15 % faster or slower, put into rooms, coloured, mixed with noise at least "
        f"8 dB below, sent over a telephone. {own.fitted.duration_s:.0f} s for the served fold.",
    )
    return card, pooled
