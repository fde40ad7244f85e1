"""The protocol's log settings as the level of our log."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from sensorium.oip.v2 import inference_pb2 as pb

from shared.errors import InvalidArgument, InvalidArguments
from shared.inference.oip.log_settings import change_log_settings, read_log_settings
from shared.telemetry import logging


@pytest.fixture(autouse=True)
def stream() -> Iterator[io.StringIO]:
    written = io.StringIO()
    logging.configure("info", stream=written)
    yield written
    logging.configure("info")


def change(**settings: bool | int | str) -> None:
    request = pb.LogSettingsRequest()
    for name, value in settings.items():
        kind = (
            "bool_param"
            if isinstance(value, bool)
            else "uint32_param"
            if isinstance(value, int)
            else "string_param"
        )
        setattr(request.settings[name], kind, value)
    change_log_settings(request)


def told() -> dict[str, bool | int | str]:
    return {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in read_log_settings().settings.items()
    }


def test_what_is_told_is_what_is_logged(stream: io.StringIO) -> None:
    assert told() == {
        "log_error": True,
        "log_warning": True,
        "log_info": True,
        "log_verbose_level": 0,
        "log_file": "",
        "log_format": "ISO8601",
    }
    change(log_info=False)
    assert (told()["log_info"], told()["log_warning"]) == (False, True)
    logging.get_logger("test").info("quiet")
    logging.get_logger("test").warning("loud")
    change(log_info=True, log_verbose_level=1)
    assert told()["log_verbose_level"] == 1
    logging.get_logger("test").debug("close")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()
    assert "close" in stream.getvalue()
    change(log_verbose_level=0)
    assert logging.get_level() == "info"


def test_levels_build_on_each_other() -> None:
    change(log_warning=False)
    assert (told()["log_info"], told()["log_warning"], told()["log_error"]) == (False, False, True)
    # Below what is off, nothing can be on.
    change(log_info=True, log_verbose_level=3)
    assert logging.get_level() == "error"
    change(log_warning=True, log_info=True)
    assert logging.get_level() == "info"


def test_what_is_sent_unchanged_or_empty_changes_nothing() -> None:
    change(log_file="", log_format="ISO8601")
    change_log_settings(pb.LogSettingsRequest(settings={"log_info": pb.LogSettingsRequest.SettingValue()}))
    assert logging.get_level() == "info"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"log_file": "/tmp/log"}, "the operator's"),
        ({"log_format": "default"}, "the operator's"),
        ({"log_info": 1}, "a truth value as bool_param, got a uint32_param"),
        ({"log_verbose_level": True}, "a number as uint32_param"),
        ({"log_error": False}, "errors are always logged"),
        ({"log_colour": True}, "one of log_error, log_info, log_verbose_level, log_warning"),
    ],
)
def test_what_cannot_be_changed_is_refused_and_nothing_is(settings: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        change(log_warning=False, **settings)  # type: ignore[arg-type]
    assert text in str(refused.value)
    assert refused.value.field == f'settings["{next(iter(settings))}"]'
    assert logging.get_level() == "info"


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidArguments) as refused:
        change(log_file="x", colour=True)
    assert len(refused.value.violations) == 2
