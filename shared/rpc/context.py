"""What a handler on the native front sees of its call: the methods of grpc.aio.ServicerContext that make sense there."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import NoReturn, TypeAlias

import grpc

from shared.rpc.quick import Details

__all__ = ["Metadata", "NativeContext"]

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

# What grpc.aio says of a call that brings no deadline.
_NEVER_S = float(sys.maxsize)
_OK = grpc.StatusCode.OK


class NativeContext:
    """What a handler sees of its call: the methods of grpc.aio.ServicerContext that make sense here."""

    __slots__ = (
        "_code",
        "_deadline_s",
        "_details",
        "_initial",
        "_metadata",
        "_peer",
        "_trailing",
        "call_id",
        "left",
        "refusal",
        "task",
    )

    def __init__(self, call_id: int, details: Details, refusal: BaseException | None = None) -> None:
        """`refusal` is what the call is to be answered with, whatever it asks for."""
        self.call_id = call_id
        self.refusal = refusal
        self.left = False  # the client is gone, or its deadline has passed
        self.task: asyncio.Task[None] | None = None
        self._metadata, self._peer, remaining_s = details
        self._deadline_s = None if remaining_s is None else time.monotonic() + remaining_s
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._initial: Metadata | None = None
        self._trailing: Metadata = ()

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The request's metadata; values of `-bin` keys are bytes."""
        return self._metadata

    def peer(self) -> str:
        """The client's address."""
        return self._peer

    def time_remaining(self) -> float:
        """Seconds until the client's deadline; a huge number without one."""
        if self._deadline_s is None:
            return _NEVER_S
        return max(0.0, self._deadline_s - time.monotonic())

    def cancelled(self) -> bool:
        """Whether the client is gone."""
        return self.left

    async def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        """Metadata ahead of the reply; it goes out with the first message."""
        self._initial = initial_metadata

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Metadata behind the reply."""
        self._trailing = trailing_metadata

    def trailing_metadata(self) -> Metadata:
        """What `set_trailing_metadata` was given last."""
        return self._trailing

    def set_code(self, code: grpc.StatusCode) -> None:
        """The status that the call ends with, unless it is aborted with another."""
        self._code = code

    def code(self) -> grpc.StatusCode | None:
        """The status so far."""
        return self._code

    def set_details(self, details: str) -> None:
        """The text of the status."""
        self._details = details

    def details(self) -> str:
        """The text so far."""
        return self._details

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> NoReturn:
        """Ends the call with a status: raises grpc.aio.AbortError."""
        self._code = grpc.StatusCode.UNKNOWN if code is _OK else code
        self._details = details
        if trailing_metadata:
            self._trailing = trailing_metadata
        raise grpc.aio.AbortError("Locally aborted.")
