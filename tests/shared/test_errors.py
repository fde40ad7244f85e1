"""The error tree: messages, details, sizes."""

from __future__ import annotations

from urllib.parse import quote

import grpc
import pytest
from google.rpc import error_details_pb2

from shared.errors import (
    DOMAIN,
    GATEWAY_REPLIES,
    MAX_DETAILS_BYTES,
    ClientError,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    InvalidArguments,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SensoriumError,
    ServerError,
    Unauthenticated,
    Unavailable,
)
from tests.support.serving import get_details

# What gRPC leaves unencoded in grpc-message.
SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def test_an_invalid_argument_says_field_expected_got_and_fix() -> None:
    error = InvalidArgument(
        "images[2].content", expected="a JPEG, PNG or WebP", got="12 bytes of text", fix="send a file"
    )
    assert str(error) == "images[2].content: expected a JPEG, PNG or WebP, got 12 bytes of text; send a file"
    status = error.to_status()
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert status.message == str(error)
    details = get_details(status)
    violation = details["BadRequest"].field_violations[0]
    assert violation.field == "images[2].content"
    assert violation.description == "expected a JPEG, PNG or WebP, got 12 bytes of text; send a file"
    assert (details["ErrorInfo"].domain, details["ErrorInfo"].reason) == (DOMAIN, "INVALID_ARGUMENT")


def test_several_violations_come_in_one_error() -> None:
    error = InvalidArguments(
        [InvalidArgument(f"texts[{at}]", expected="1 character", got="none") for at in range(30)]
    )
    assert "texts[0]: expected 1 character" in error.message
    assert "and 10 more" in str(error)
    status = error.to_status()
    listed = 0
    for packed in status.details:
        if packed.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            found = error_details_pb2.BadRequest()
            packed.Unpack(found)
            listed += len(found.field_violations)
    assert listed == 20


def test_no_violations_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        InvalidArguments([])


def test_what_is_quoted_is_cut() -> None:
    error = InvalidArgument("text", expected="at most 10 characters", got="x" * 1_000_000)
    assert len(error.message) < 400
    assert "(1000000 characters)" in error.message


def test_a_status_fits_into_the_trailers_of_any_client() -> None:
    huge = [InvalidArgument("ü" * 190, expected="ü" * 190, got="ü" * 190, fix="ü" * 190) for _ in range(50)]
    status = InvalidArguments(huge).to_status()
    assert sum(packed.ByteSize() for packed in status.details) <= MAX_DETAILS_BYTES
    assert get_details(status)["ErrorInfo"].reason == "INVALID_ARGUMENT"
    # 8 KiB is what clients accept: the message percent-encoded and once more in the details, these in base64.
    encoded = len(quote(status.message, safe=SAFE)) + status.ByteSize() * 4 / 3
    assert encoded + 256 < 8 * 1024


def test_a_long_key_of_the_caller_s_does_not_push_out_what_is_wrong() -> None:
    error = InvalidArgument(f'parameters["{"k" * 3000}"]', expected="a number", got="a word")
    assert error.message.endswith("(3014 characters): expected a number, got a word")
    assert "BadRequest" in get_details(error.to_status())
    many = InvalidArguments(
        [InvalidArgument("k" * 600, expected="x" * 600, got="y" * 600, fix="z" * 600) for _ in range(30)]
    )
    assert len(get_details(many.to_status())["BadRequest"].field_violations) == 3


def test_not_found_lists_at_most_twenty_names() -> None:
    error = NotFound("model", "cat", known=[f"model-{at:02}" for at in range(25)])
    assert 'no model is named "cat"' in error.message
    assert "model-19" in error.message
    assert "model-20" not in error.message
    assert error.message.endswith("and 5 more")
    assert get_details(error.to_status())["ResourceInfo"].resource_name == "cat"


def test_not_found_without_any_names_says_so() -> None:
    assert NotFound("model", "cat", known=[]).message.endswith("those that exist: none")


def test_resource_exhausted_says_when_to_come_back() -> None:
    details = get_details(ResourceExhausted("the queue of minilm", limit=64, retry_after_s=0.25).to_status())
    assert details["RetryInfo"].retry_delay.ToMilliseconds() == 250
    assert details["QuotaFailure"].violations[0].subject == "the queue of minilm"


def test_resource_exhausted_by_size_does_not_ask_back() -> None:
    error = ResourceExhausted("the message", limit="10 bytes", retry_after_s=None, fix="send less")
    assert "RetryInfo" not in get_details(error.to_status())
    assert error.message == "the message: the limit is 10 bytes; send less"


@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        (
            FailedPrecondition("`a` is ambiguous", fix="say vision/a or nlp/a"),
            "FAILED_PRECONDITION",
            "PreconditionFailure",
        ),
        (Unauthenticated("TOKEN_MISSING", "no token"), "UNAUTHENTICATED", "ErrorInfo"),
        (PermissionDenied("SCOPE_MISSING", "no scope"), "PERMISSION_DENIED", "ErrorInfo"),
        (DeadlineExceeded("waiting"), "DEADLINE_EXCEEDED", "ErrorInfo"),
        (Unavailable("model a", reason="loading", retry_after_s=1), "UNAVAILABLE", "RetryInfo"),
        (Internal("r-1"), "INTERNAL", "ErrorInfo"),
    ],
)
def test_every_leaf_has_its_code_and_detail(error: SensoriumError, code: str, detail: str) -> None:
    assert error.code.name == code
    assert detail in get_details(error.to_status())
    assert isinstance(error, ClientError) != isinstance(error, ServerError)


@pytest.mark.parametrize(("retry_after_s", "pushback_ms"), [(0.25, 250), (10.0, 10_000), (30.0, -1)])
def test_a_library_is_not_told_to_wait_for_long(retry_after_s: float, pushback_ms: int) -> None:
    for error in (
        Unavailable("model a", reason="it is not loaded", retry_after_s=retry_after_s),
        ResourceExhausted("calls", limit=1, retry_after_s=retry_after_s),
    ):
        assert error.pushback_ms == pushback_ms
        assert "RetryInfo" in get_details(error.to_status())


def test_internal_carries_the_request_id_and_nothing_else() -> None:
    error = Internal("r-1")
    assert error.message == "internal error; report it with request id r-1"
    assert get_details(error.to_status())["ErrorInfo"].metadata["request_id"] == "r-1"


def test_the_reason_of_an_authentication_error_is_its_own() -> None:
    info = get_details(Unauthenticated("TOKEN_EXPIRED", "expired").to_status())["ErrorInfo"]
    assert info.reason == "TOKEN_EXPIRED"


def test_gateway_replies_are_told_apart() -> None:
    seen = {(reply.http_status, reply.flags, reply.details) for reply in GATEWAY_REPLIES}
    assert len(seen) == len(GATEWAY_REPLIES)


def test_a_special_gateway_reply_comes_before_the_general_one() -> None:
    general: set[int] = set()
    for reply in GATEWAY_REPLIES:
        assert reply.http_status not in general, f"{reply.name} is never reached"
        if not reply.flags and not reply.details:
            general.add(reply.http_status)


def test_gateway_replies_that_ask_back_say_when() -> None:
    for reply in GATEWAY_REPLIES:
        details = get_details(reply.to_status())
        assert details["ErrorInfo"].reason == reply.reason
        assert ("RetryInfo" in details) == (reply.retry_after_s is not None)
        if reply.code is grpc.StatusCode.UNAVAILABLE:
            assert reply.retry_after_s is not None
