"""Rpcs that take a list of inputs and answer with one result per input, each with a status of its own."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from sensorium.calls.plan import Plan, Request, Rpc, item_error, model, split, timing
from sensorium.errors import Internal, SensoriumError
from sensorium.results import Result

R = TypeVar("R", bound=Result)


def listing(
    rpc: Rpc,
    inputs: Sequence[Any],
    *,
    sizes: Sequence[int],
    max_items: int,
    ask: Callable[[Sequence[Any]], Message],
    kind: type[R],
    parse: Callable[[Any], dict[str, Any]],
) -> Plan[list[R]]:
    """A plan for `inputs`, in as many calls as they need.

    sizes: bytes of each input. max_items: most inputs of one call. ask: a request for some of them. kind: what a
    result becomes; parse: its fields out of an answered item.
    """
    parts = list(split(sizes, max_items))
    requests = [Request(ask(inputs[part]), part.start, alone=part.stop - part.start == 1) for part in parts]

    def finish(replies: Sequence[Any]) -> list[R]:
        results: list[R] = []
        for part, reply in zip(parts, replies, strict=True):
            expected = part.stop - part.start
            if isinstance(reply, SensoriumError):
                results += [kind(error=reply)] * expected
                continue
            # Results are told apart by their place alone.
            if len(reply.results) != expected:
                got = len(reply.results)
                raise Internal(f"results: expected {expected}, one per input, got {got}", code="INTERNAL")
            answered_by, times = model(reply.model), timing(reply.timing)
            for item in reply.results:
                error = item_error(item, part.start)
                fields = {} if error else parse(item)
                results.append(kind(model=answered_by, timing=times, error=error, **fields))
        return results

    return Plan(rpc, requests, finish)
