"""What can go wrong, as one tree: a class per status code, because that is what callers act on.

    SensoriumError                 code, message, reason, violations, retry_after_s, request_id
    ├── InvalidArgument            an input or an option is wrong; `violations` says which and how
    ├── Unauthenticated            no token, or one that is not accepted
    ├── PermissionDenied           the token lacks a scope
    ├── NotFound                   no such model or service; the message lists those that exist
    ├── FailedPrecondition         well formed, not possible as things are (an ambiguous model name)
    ├── Unimplemented              this mesh does not have the call
    ├── ResourceExhausted          a queue or a quota is full; try again after `retry_after_s`
    ├── DeadlineExceeded           it took longer than the timeout
    ├── Cancelled
    ├── Unavailable                not ready, or draining; try again after `retry_after_s`
    │   └── CannotConnect          nobody listens at the address
    └── Internal                   the mesh's fault; `request_id` finds it in its logs

Bad arguments that never leave this process are TypeError and ValueError; files that cannot be read are OSError.
"""

import re
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"
_REQUEST_ID_KEY = "x-request-id"
# What gRPC's core says in UNAVAILABLE when it never reached anybody.
_CONNECT_SIGNS = ("failed to connect", "Failed to connect", "DNS resolution failed", "Connection refused")
_HOW_TO_AUTHENTICATE = (
    "no token: set SENSORIUM_TOKEN or SENSORIUM_TOKEN_FILE, or pass token=; `sensorium up` leaves one in the state folder "
    "of the user who runs it, and `sensorium token create` makes more"
)
_ITEM = re.compile(r"\b(images|texts)\[(\d+)\]")


@dataclass(frozen=True)
class Violation:
    """One field of the request that is wrong: its path, and what was expected, what was got, what to do."""

    field: str
    description: str


class SensoriumError(Exception):
    """A call, or one input of it, failed.

    code: name of the gRPC status code, e.g. `INVALID_ARGUMENT`. message: for people. reason: for programs, e.g.
    `TOKEN_EXPIRED`, or empty. violations: the fields that are wrong. retry_after_s: when to try again, or None.
    request_id: what to ask the mesh's logs for, or empty.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "UNKNOWN",
        reason: str = "",
        violations: tuple[Violation, ...] = (),
        retry_after_s: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.violations = violations
        self.retry_after_s = retry_after_s
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class InvalidArgument(SensoriumError):
    """An input or an option is wrong; `violations` says which and how."""


class Unauthenticated(SensoriumError):
    """No token, or one that is not accepted."""


class PermissionDenied(SensoriumError):
    """The token does not allow this."""


class NotFound(SensoriumError):
    """No such model or service; the message lists those that exist."""


class FailedPrecondition(SensoriumError):
    """Well formed, not possible as things are."""


class Unimplemented(SensoriumError):
    """This mesh does not have the call."""


class ResourceExhausted(SensoriumError):
    """A queue or a quota is full, or the input is too large."""


class DeadlineExceeded(SensoriumError):
    """It took longer than the timeout."""


class Cancelled(SensoriumError):
    """The call was cancelled."""


class Unavailable(SensoriumError):
    """Not ready, or draining."""


class CannotConnect(Unavailable):
    """Nobody listens at the address."""


class Internal(SensoriumError):
    """The mesh's fault; `request_id` finds it in its logs."""


_CLASSES: dict[str, type[SensoriumError]] = {
    "INVALID_ARGUMENT": InvalidArgument,
    "OUT_OF_RANGE": InvalidArgument,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
    "NOT_FOUND": NotFound,
    "FAILED_PRECONDITION": FailedPrecondition,
    "UNIMPLEMENTED": Unimplemented,
    "RESOURCE_EXHAUSTED": ResourceExhausted,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "CANCELLED": Cancelled,
    "UNAVAILABLE": Unavailable,
    "INTERNAL": Internal,
}


def from_status(status: status_pb2.Status, *, request_id: str = "", offset: int = 0) -> SensoriumError:
    """The error that a `google.rpc.Status` means.

    offset: position of the call's first input in the caller's list; item numbers in the texts are moved by it.
    """
    code = code_pb2.Code.Name(status.code) if status.code in code_pb2.Code.values() else "UNKNOWN"
    reason, retry_after_s = "", None
    violations: list[Violation] = []
    for detail in status.details:
        kind = detail.TypeName().removeprefix("google.rpc.")
        try:
            if kind == "ErrorInfo":
                info = error_details_pb2.ErrorInfo.FromString(detail.value)
                reason = info.reason
                request_id = request_id or info.metadata.get("request_id", "")
            elif kind == "BadRequest":
                violations.extend(
                    Violation(_move(violation.field, offset), _move(violation.description, offset))
                    for violation in error_details_pb2.BadRequest.FromString(detail.value).field_violations
                )
            elif kind == "RetryInfo":
                delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
                retry_after_s = delay.seconds + delay.nanos / 1e9
            elif kind == "RequestInfo":
                request_id = request_id or error_details_pb2.RequestInfo.FromString(detail.value).request_id
        except DecodeError:
            # A detail that some proxy damaged: the code and the message still stand.
            continue
    return _CLASSES.get(code, SensoriumError)(
        _move(status.message, offset),
        code=code,
        reason=reason,
        violations=tuple(violations),
        retry_after_s=retry_after_s,
        request_id=request_id,
    )


def from_rpc_error(error: grpc.RpcError, *, address: str, offset: int = 0) -> SensoriumError:
    """The error that a failed call means; sync and async calls carry the same. offset: see `from_status`."""
    metadata = _metadata(error, "initial_metadata") | _metadata(error, "trailing_metadata")
    code: grpc.StatusCode = error.code()
    status = status_pb2.Status()
    details = metadata.get(_DETAILS_KEY)
    if isinstance(details, bytes):
        try:
            status.ParseFromString(details)
        except DecodeError:
            status.Clear()
    if status.code != code.value[0]:
        # No details, or details of another answer than this one.
        status = status_pb2.Status(code=code.value[0], message=error.details() or code.value[1])
    request_id = metadata.get(_REQUEST_ID_KEY, "")
    # A reply of the gateway has metadata; what gRPC says by itself has none.
    if (
        code is grpc.StatusCode.UNAVAILABLE
        and not metadata
        and any(sign in status.message for sign in _CONNECT_SIGNS)
    ):
        return CannotConnect(
            f"nobody answers at {address}; is the mesh running there? Start one with `sensorium up`, "
            "or set SENSORIUM_ADDRESS",
            code="UNAVAILABLE",
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and not metadata:
        status.message = f"no answer from {address} within the timeout; if a mesh runs there, set a longer one or send less"
    described = from_status(
        status, request_id=request_id if isinstance(request_id, str) else "", offset=offset
    )
    if described.reason == "TOKEN_MISSING":
        # The mesh speaks of headers, which callers of this client do not see.
        return Unauthenticated(
            _HOW_TO_AUTHENTICATE,
            code=described.code,
            reason=described.reason,
            request_id=described.request_id,
        )
    return described


def _metadata(error: grpc.RpcError, name: str) -> dict[str, str | bytes]:
    read = getattr(error, name, None)
    pairs = read() if read else None
    return dict(tuple(pair) for pair in pairs or ())


def _move(text: str, offset: int) -> str:
    if not offset:
        return text
    return _ITEM.sub(lambda found: f"{found[1]}[{int(found[2]) + offset}]", text)
