"""The error tree, split by blame, and how each error looks on the wire.

    Exception
    ├── StartupError                the operator can act: one readable line, exit 1
    │   └── SettingsError           (in shared/settings.py)
    ├── RestartError                the process must be started again: one readable line, exit 75
    └── SensoriumError              ends a call, or one item of it
        ├── ClientError             the caller can act
        │   ├── InvalidArgument     INVALID_ARGUMENT     BadRequest
        │   ├── InvalidArguments    INVALID_ARGUMENT     BadRequest, several fields
        │   ├── NotFound            NOT_FOUND            ResourceInfo
        │   ├── FailedPrecondition  FAILED_PRECONDITION  PreconditionFailure
        │   ├── Unimplemented       UNIMPLEMENTED
        │   ├── Unauthenticated     UNAUTHENTICATED
        │   ├── PermissionDenied    PERMISSION_DENIED
        │   ├── ResourceExhausted   RESOURCE_EXHAUSTED   QuotaFailure, RetryInfo
        │   ├── DeadlineExceeded    DEADLINE_EXCEEDED
        │   └── Cancelled           CANCELLED
        └── ServerError             ours
            ├── Unavailable         UNAVAILABLE          RetryInfo
            └── Internal            INTERNAL             the request id and nothing else

Every error carries an ErrorInfo with domain `sensorium` and its reason. `GATEWAY_REPLIES` gives the same
shape to what Envoy answers by itself. Nothing here talks to a network or a log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import ClassVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "sensorium"
# Of a retry within a call: more than a queue or an adaptive limit asks for, less than a model that is broken.
_LONGEST_PUSHBACK_S = 10.0
# Exit code of a process that wants to be started again: EX_TEMPFAIL of <sysexits.h>.
RESTART_CODE = 75
# Reason of a refusal by a queue that has no place left: admission takes it as overload.
QUEUE_FULL = "QUEUE_FULL"
# Names listed in a NotFound: enough to spot a typing error, few enough to read.
MAX_NAMES = 20
# Fields listed in one InvalidArguments.
MAX_VIOLATIONS = 20
# Longest single value quoted back, in characters: it may be the caller's own megabyte.
MAX_QUOTED = 200
# grpc-message and grpc-status-details-bin travel as HTTP/2 trailers. Clients accept 8 KiB of metadata by
# default; the message is percent-encoded and the details are base64, so both together stay below that.
MAX_MESSAGE_BYTES = 1536
MAX_DETAILS_BYTES = 3072
_INFO_BYTES = 256  # of the ErrorInfo and the names of types, at most


class StartupError(Exception):
    """The process cannot start; its text is one readable line that says what to do."""


class RestartError(Exception):
    """The process cannot go on as it is and drains; its text says why it has to be started again."""


class SensoriumError(Exception):
    """Ends a call, or one item of it, with a status. Raise a leaf of the tree, never this class."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN
    default_reason: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        details: Sequence[Message] = (),
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = _clip_message(message, MAX_MESSAGE_BYTES)
        self.reason = reason or self.default_reason
        self.info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=metadata or {})
        self.details: tuple[Message, ...] = (self.info, *details)

    @property
    def pushback_ms(self) -> int | None:
        """What retrying clients are told in `grpc-retry-pushback-ms` (gRFC A6): the milliseconds to wait, negative for
        never; None says nothing.
        """
        return None

    def to_status(self) -> status_pb2.Status:
        """Renders the error as google.rpc.Status: for an item of a reply, or for `grpc-status-details-bin`.

        Details that would not fit into a client's metadata limit are left out, the ErrorInfo last of all.
        """
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        room = MAX_DETAILS_BYTES
        for detail in self.details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            room -= packed.ByteSize()
            if room < 0:
                break
            status.details.append(packed)
        return status


class ClientError(SensoriumError):
    """The caller can act on it."""


class ServerError(SensoriumError):
    """The caller did nothing wrong."""


class InvalidArgument(ClientError):
    """One field is wrong.

    field: path in the request, e.g. `images[2].content`. expected, got: in words and numbers, never the
    payload. fix: what to do, as an imperative; left out where `expected` says it already.
    """

    code = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = "INVALID_ARGUMENT"

    def __init__(self, field: str, *, expected: str, got: str, fix: str = "") -> None:
        # It may hold a key of the caller's.
        field = _clip(field)
        self.field = field
        self.description = f"expected {_clip(expected)}, got {_clip(got)}" + (
            f"; {_clip(fix)}" if fix else ""
        )
        self.violation = error_details_pb2.BadRequest.FieldViolation(
            field=field, description=self.description
        )
        super().__init__(
            f"{field}: {self.description}",
            details=(error_details_pb2.BadRequest(field_violations=[self.violation]),),
        )


class InvalidArguments(ClientError):
    """Several fields are wrong; all are reported at once. `violations` must not be empty."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = "INVALID_ARGUMENT"

    def __init__(self, violations: Sequence[InvalidArgument]) -> None:
        if not violations:
            raise ValueError("violations: expected at least one, got none")
        self.violations = tuple(violations)
        shown = self.violations[:MAX_VIOLATIONS]
        text = " | ".join(str(violation) for violation in shown)
        if len(self.violations) > len(shown):
            text += f" | and {len(self.violations) - len(shown)} more"
        # As many as there is room for beside the ErrorInfo: one too large would be left out as a whole.
        listed = error_details_pb2.BadRequest()
        for violation in shown:
            listed.field_violations.append(violation.violation)
            if listed.ByteSize() > MAX_DETAILS_BYTES - _INFO_BYTES:
                del listed.field_violations[-1]
                break
        super().__init__(text, details=[listed])


class NotFound(ClientError):
    """Nothing of that kind has that name. known: the names that exist; at most 20 are listed."""

    code = grpc.StatusCode.NOT_FOUND
    default_reason = "NOT_FOUND"

    def __init__(self, kind: str, name: str, *, known: Sequence[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        listed = ", ".join(sorted(self.known)[:MAX_NAMES]) or "none"
        more = f" and {len(self.known) - MAX_NAMES} more" if len(self.known) > MAX_NAMES else ""
        super().__init__(
            f'no {kind} is named "{_clip(name)}"; those that exist: {listed}{more}',
            details=(
                error_details_pb2.ResourceInfo(
                    resource_type=kind,
                    resource_name=_clip(name),
                    description=f"those that exist: {listed}{more}",
                ),
            ),
        )


class FailedPrecondition(ClientError):
    """The request is well formed, and cannot be served as things stand, e.g. a model name that two services
    have.
    """

    code = grpc.StatusCode.FAILED_PRECONDITION
    default_reason = "FAILED_PRECONDITION"

    def __init__(self, what: str, *, fix: str) -> None:
        violation = error_details_pb2.PreconditionFailure.Violation(
            type=self.default_reason, subject=_clip(what), description=_clip(fix)
        )
        super().__init__(
            f"{what}; {fix}", details=(error_details_pb2.PreconditionFailure(violations=[violation]),)
        )


class Unimplemented(ClientError):
    """The method is declared and not served here."""

    code = grpc.StatusCode.UNIMPLEMENTED
    default_reason = "UNIMPLEMENTED"


class Unauthenticated(ClientError):
    """Nobody vouches for the caller."""

    code = grpc.StatusCode.UNAUTHENTICATED
    default_reason = "UNAUTHENTICATED"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, reason=reason)


class PermissionDenied(ClientError):
    """The caller is known and may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    default_reason = "PERMISSION_DENIED"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, reason=reason)


class ResourceExhausted(ClientError):
    """Refused by load, quota or size.

    what: the thing that is full or too large. limit: its bound with the unit. retry_after_s: when to come
    back, or None where coming back does not help. fix: what to do instead. reason: for programs, where there is
    more to say than the code does, e.g. `OVERLOADED`.
    """

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = "RESOURCE_EXHAUSTED"

    def __init__(
        self, what: str, *, limit: str | float, retry_after_s: float | None, fix: str = "", reason: str = ""
    ) -> None:
        self.retry_after_s = retry_after_s
        if not fix:
            fix = "send less" if retry_after_s is None else f"retry after {retry_after_s:g} s"
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=_clip(what), description=f"limit: {limit}"
        )
        details: list[Message] = [error_details_pb2.QuotaFailure(violations=[violation])]
        if retry_after_s is not None:
            details.append(_retry_info(retry_after_s))
        super().__init__(f"{what}: the limit is {limit}; {fix}", details=details, reason=reason)

    @property
    def pushback_ms(self) -> int | None:
        """See SensoriumError."""
        return _pushback_ms(self.retry_after_s)


class DeadlineExceeded(ClientError):
    """The deadline passed. where: what was being done or waited for, e.g. `waiting for a batch slot`.

    Or it is still `left_s` off, and what is to be done takes `needed_s`, so that it was not begun.
    """

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"

    def __init__(self, where: str, *, left_s: float | None = None, needed_s: float = 0.0) -> None:
        said = f"the deadline passed while {where}"
        if left_s is not None:
            said = f"the deadline is {left_s:.3g} s off, and {where} takes about {needed_s:.3g} s"
        super().__init__(f"{said}; set a longer one or send less")


class Cancelled(ClientError):
    """The caller left."""

    code = grpc.StatusCode.CANCELLED
    default_reason = "CANCELLED"

    def __init__(self) -> None:
        super().__init__("the caller cancelled the call")


class Unavailable(ServerError):
    """Draining, or not ready yet. what: the thing that is not there, e.g. `model vision/centerface`."""

    code = grpc.StatusCode.UNAVAILABLE
    default_reason = "UNAVAILABLE"

    def __init__(self, what: str, *, reason: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(
            f"{what} is unavailable: {reason}; retry after {retry_after_s:g} s",
            details=(_retry_info(retry_after_s),),
        )

    @property
    def pushback_ms(self) -> int | None:
        """See SensoriumError."""
        return _pushback_ms(self.retry_after_s)


class Internal(ServerError):
    """Our bug. The caller gets the request id, by which the log tells the rest."""

    code = grpc.StatusCode.INTERNAL
    default_reason = "INTERNAL"

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        super().__init__(
            f"internal error; report it with request id {request_id}", metadata={"request_id": request_id}
        )


@dataclass(frozen=True)
class GatewayReply:
    """How one of Envoy's own replies is worded.

    A reply matches if its HTTP status is `http_status`, and one of `flags` (Envoy's response flags) is set
    where flags are named, and its response code details begin with `details` where that is named. The first
    match in GATEWAY_REPLIES wins.
    """

    name: str
    http_status: int
    code: grpc.StatusCode
    reason: str
    message: str
    """With `{max_message}` and `{max_headers}` in the place of bounds that only the gateway's configuration knows."""
    flags: tuple[str, ...] = ()
    details: str = ""
    retry_after_s: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def to_status(self) -> status_pb2.Status:
        """Renders the reply as google.rpc.Status, with ErrorInfo and, where waiting helps, RetryInfo."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=dict(self.metadata))
        details: list[Message] = [info]
        if self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            violation = error_details_pb2.QuotaFailure.Violation(subject=self.name, description=self.message)
            details.append(error_details_pb2.QuotaFailure(violations=[violation]))
        if self.retry_after_s is not None:
            details.append(_retry_info(self.retry_after_s))
        for detail in details:
            status.details.add().Pack(detail)
        return status


def _pushback_ms(retry_after_s: float | None) -> int:
    """-1, "do not retry", where the same call would be refused again, or is not for a library to sleep over in its middle:
    a wait that outlasts the deadline would be told as DEADLINE_EXCEEDED, and the reason would be lost.
    """
    return -1 if retry_after_s is None or retry_after_s > _LONGEST_PUSHBACK_S else ceil(retry_after_s * 1000)


def _retry_info(retry_after_s: float) -> error_details_pb2.RetryInfo:
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(int(retry_after_s * 1e9))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def _clip(text: str, limit: int = MAX_QUOTED) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _clip_message(text: str, limit: int) -> str:
    """Cuts what would be longer than `limit` once it is percent-encoded, as grpc-message is."""
    text = text.encode("utf-8", "replace").decode()
    if len(text) * 12 <= limit:
        return text
    room = limit
    for at, character in enumerate(text):
        room -= 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode())
        if room < 0:
            return text[:at] + "…"
    return text


# One row for each condition: name, HTTP status, code, reason, message; then what else it takes to match, and when to retry.
# fmt: off
GATEWAY_REPLIES: tuple[GatewayReply, ...] = (
    GatewayReply("token missing", 401, grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING",
        "no token: send the header `authorization: Bearer <token>`, or `x-api-key: <token>`",
        details="jwt_authn_access_denied{Jwt_is_missing"),
    GatewayReply("token expired", 401, grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED",
        "the token has expired: create a new one with `sensorium token create`",
        details="jwt_authn_access_denied{Jwt_is_expired"),
    GatewayReply("token for another audience", 403, grpc.StatusCode.UNAUTHENTICATED, "TOKEN_AUDIENCE",
        "the token is meant for another audience: create one for this mesh with `sensorium token create`",
        details="jwt_authn_access_denied{Audiences_in_Jwt_are_not_allowed"),
    GatewayReply("token invalid", 401, grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID",
        "the token was not signed by a key this mesh trusts, or is not a JWT: create one with `sensorium token create`"),
    GatewayReply("not permitted", 403, grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING",
        "the token does not carry the scope this call needs (a service's name, `mesh` for status and lists, `admin` for "
        "what changes it, unless mesh.yaml says otherwise): `sensorium token inspect` shows what it carries"),
    GatewayReply("no such method", 404, grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN",
        "no such method or path: server reflection lists the methods, their `google.api.http` options the paths"),
    GatewayReply("wrong HTTP method", 405, grpc.StatusCode.UNIMPLEMENTED, "HTTP_METHOD_UNKNOWN",
        "this path does not take this HTTP method: the rpc's `google.api.http` option says which one it does"),
    GatewayReply("message too large", 413, grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE",
        "the message is larger than {max_message}, the most that is taken; send fewer or smaller items per call"),
    GatewayReply("headers too large", 431, grpc.StatusCode.RESOURCE_EXHAUSTED, "HEADERS_TOO_LARGE",
        "the request's headers are larger than {max_headers}, the most that is taken; send less metadata"),
    GatewayReply("rate limit", 429, grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED",
        "too many calls for this client: retry after 1 s, with fewer calls a second",
        retry_after_s=1.0),
    GatewayReply("message too large", 400, grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE",
        "the message is larger than {max_message}, the most that is taken; send fewer or smaller items per call",
        details="grpc_field_extraction_FAILED_PRECONDITION"),
    GatewayReply("malformed request", 400, grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST",
        "the request could not be read: expected JSON or uncompressed gRPC; compare it with the rpc's request message"),
    GatewayReply("too busy", 503, grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED",
        "too many calls are in flight: retry after 1 s",
        flags=("UO", "OM"), retry_after_s=1.0),
    GatewayReply("too busy", 503, grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED",
        "the gateway's memory is full: retry after 1 s, with smaller or fewer calls at a time",
        details="overload", retry_after_s=1.0),
    GatewayReply("no replica", 503, grpc.StatusCode.UNAVAILABLE, "NO_REPLICA",
        "no replica is ready to answer: retry after 1 s; `sensorium status` shows why",
        flags=("UH", "NC", "NR"), retry_after_s=1.0),
    GatewayReply("replica lost", 503, grpc.StatusCode.UNAVAILABLE, "REPLICA_LOST",
        "the replica went away while it answered: retry after 1 s",
        retry_after_s=1.0),
    GatewayReply("bad gateway", 502, grpc.StatusCode.UNAVAILABLE, "REPLICA_LOST",
        "the replica's answer could not be read: retry after 1 s",
        retry_after_s=1.0),
    GatewayReply("deadline", 504, grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED",
        "the deadline passed before a replica answered: set a longer one or send less"),
    GatewayReply("deadline", 408, grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED",
        "the deadline passed before the request was complete: set a longer one or send less"),
)
# fmt: on


def let_go(error: BaseException) -> None:
    """Takes the tracebacks off an error that was answered and off all that led to it, so that the request is freed at once.

    A frame that still names the error it raised makes a circle with it, and in the frames of a call its request is
    held: some hundred refused messages of full size would stay until the garbage collector comes by.
    """
    found: list[BaseException | None] = [error]
    seen: set[int] = set()
    while found:
        one = found.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        found += (one.__cause__, one.__context__)
        if isinstance(one, BaseExceptionGroup):
            found += one.exceptions
