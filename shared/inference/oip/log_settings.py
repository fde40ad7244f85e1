"""LogSettings: how much the replica logs, in the protocol's terms.

Here: the protocol's settings as the level of our log, and back. Not here: the log (`shared.telemetry.logging`), who may
change it (the gateway). Where and how the log is written is the operator's, for it names files of this machine.
"""

from __future__ import annotations

from sensorium.oip.v2 import inference_pb2 as pb

from shared.errors import InvalidArgument, InvalidArguments
from shared.telemetry import logging

# From the least to the most that is told. Each includes those before it.
_LEVELS = ("error", "warning", "info", "debug")
_SWITCHES = {"log_error": "error", "log_warning": "warning", "log_info": "info"}
_VERBOSE = "log_verbose_level"
_FIXED = ("log_file", "log_format")


def read_log_settings() -> pb.LogSettingsResponse:
    """All settings as they are."""
    told = _LEVELS.index(logging.get_level())
    reply = pb.LogSettingsResponse()
    for name, level in _SWITCHES.items():
        reply.settings[name].bool_param = _LEVELS.index(level) <= told
    reply.settings[_VERBOSE].uint32_param = int(_LEVELS[told] == "debug")
    # Standard error, and its timestamps.
    reply.settings["log_file"].string_param = ""
    reply.settings["log_format"].string_param = "ISO8601"
    return reply


def change_log_settings(request: pb.LogSettingsRequest) -> None:
    """Change those that are sent.

    Raises:
        InvalidArgument, InvalidArguments: one is unknown, of another type, or not to be changed; nothing is changed.
    """
    before = read_log_settings().settings
    wanted = {name: before[name].bool_param for name in _SWITCHES}
    verbose = bool(before[_VERBOSE].uint32_param)
    wrong: list[InvalidArgument] = []
    for name in sorted(request.settings):
        value, field = request.settings[name], f'settings["{name}"]'
        choice = value.WhichOneof("parameter_choice")
        if choice is None:
            # Nothing is said of it.
            continue
        if name in _FIXED:
            if value.string_param != before[name].string_param:
                expected = (
                    f'"{before[name].string_param}", for where and how the log is written is the operator\'s'
                )
                wrong.append(
                    InvalidArgument(field, expected=expected, got="another value", fix="leave it out")
                )
        elif name in wanted:
            if choice != "bool_param":
                wrong.append(
                    InvalidArgument(field, expected="a truth value as bool_param", got=f"a {choice}")
                )
            elif name == "log_error" and not value.bool_param:
                wrong.append(
                    InvalidArgument(field, expected="true, for errors are always logged", got="false")
                )
            wanted[name] = value.bool_param
        elif name == _VERBOSE:
            if choice != "uint32_param":
                wrong.append(InvalidArgument(field, expected="a number as uint32_param", got=f"a {choice}"))
            verbose = value.uint32_param > 0
        else:
            known = ", ".join(sorted((*wanted, _VERBOSE)))
            wrong.append(InvalidArgument(field, expected=f"one of {known}", got="an unknown one"))
    if wrong:
        raise wrong[0] if len(wrong) == 1 else InvalidArguments(wrong)
    level = "error"
    for name, switched in _SWITCHES.items():
        # One that is switched off hides those below it as well.
        if not wanted[name]:
            break
        level = switched
    else:
        level = "debug" if verbose else level
    if level != logging.get_level():
        logging.set_level(level)
        logging.get_logger("inference").warning("log level changed", level_now=level)
