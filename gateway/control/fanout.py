"""One Open Inference Protocol call to several replicas at a time, and what is said where some of them fail.

Which call goes to whom is decided elsewhere. Every answer is waited for within the caller's own deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc

from gateway.discovery.catalog import RETRY_AFTER_S
from gateway.discovery.roster import Replica, State
from shared.errors import FailedPrecondition, Unavailable
from shared.rpc.call import DETAILS_TRAILER
from shared.rpc.channel import channel, make_onward_metadata
from shared.rpc.deadline import Deadline

# What may be another matter a moment later; everything else somebody has to mend.
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


@dataclass(frozen=True)
class Outcome:
    """What one replica answered: `reply`, or a status that is not OK. details: of `grpc-status-details-bin`."""

    replica: Replica
    reply: Any = None
    code: grpc.StatusCode = grpc.StatusCode.OK
    text: str = ""
    details: bytes = b""

    @property
    def failed(self) -> bool:
        """Whether it did not do what it was asked."""
        return self.code is not grpc.StatusCode.OK

    def __str__(self) -> str:
        return f"{self.replica.service} at {self.replica.endpoint}: {self.code.name}: {self.text}"


async def ask_all(
    replicas: Sequence[Replica], method: str, request: Message, deadline: Deadline
) -> list[Outcome]:
    """Sends `request` to all of them at once. method: an rpc of the Open Inference Protocol, e.g. `LogSettings`.

    One that cannot be reached is not tried: its outcome is why.
    """
    return list(await asyncio.gather(*(_ask(replica, method, request, deadline) for replica in replicas)))


async def settle(outcomes: Sequence[Outcome], what: str, done: str, context: Any) -> None:
    """Returns if nobody failed; ends the call otherwise, and says of each who failed why.

    what: e.g. `model vision/minilm`; done: what happened to it elsewhere, e.g. `loaded`. If all fail alike the status is
    theirs. Raises Unavailable if all reasons may pass by themselves, else FailedPrecondition.
    """
    failed = [outcome for outcome in outcomes if outcome.failed]
    if not failed:
        return
    first = failed[0]
    if len(failed) == len(outcomes) and len({(one.code, one.text) for one in failed}) == 1:
        trailers = ((DETAILS_TRAILER, first.details),) if first.details else ()
        await context.abort(first.code, first.text, trailers)
    said = f"{done} on {len(outcomes) - len(failed)} of {len(outcomes)} replicas; " + "; ".join(
        map(str, failed)
    )
    if all(outcome.code in _PASSING for outcome in failed):
        raise Unavailable(what, reason=said, retry_after_s=RETRY_AFTER_S)
    raise FailedPrecondition(f"{what}: {said}", fix="mend what they say, then send the same call again")


async def _ask(replica: Replica, method: str, request: Message, deadline: Deadline) -> Outcome:
    if replica.state is State.UNREACHABLE:
        return Outcome(replica, code=grpc.StatusCode.UNAVAILABLE, text=f"unreachable: {replica.reason}")
    async with channel(replica.endpoint) as open_channel:
        call = getattr(pb_grpc.GRPCInferenceServiceStub(open_channel), method)
        try:
            reply = await call(
                request, timeout=max(0.0, deadline.remaining_s()), metadata=make_onward_metadata(deadline)
            )
        except grpc.aio.AioRpcError as error:
            pairs: Any = error.trailing_metadata() or ()
            trailers = dict(pairs)
            details = trailers.get(DETAILS_TRAILER, b"")
            return Outcome(replica, None, error.code(), error.details() or "", details)
    return Outcome(replica, reply)
