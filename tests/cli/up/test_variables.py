"""Tests of the look-out for variables that no process reads."""

from cli.up.variables import find_strays

SERVICES = ("vision", "nlp", "call-notes")


def test_variables_of_parts_and_of_the_command_are_nobodys_business() -> None:
    environ = {
        "SENSORIUM_VISION_RPC__ADDRESS": "x",
        "SENSORIUM_CALL_NOTES_BOUNDS__MAX": "1",
        "SENSORIUM_GATEWAY_LISTEN": "x",
        "SENSORIUM_LOG_LEVEL": "info",
        "SENSORIUM_TOKEN": "x",
        "SENSORIUM_STATE_DIR": "/x",
        "HOME": "/x",
    }
    assert find_strays(environ, SERVICES) == []


def test_a_misspelt_part_is_named_with_the_one_that_was_meant() -> None:
    (line,) = find_strays({"SENSORIUM_VISIN_RPC__ADDRESS": "secret"}, SERVICES)
    assert line.startswith("SENSORIUM_VISIN_RPC__ADDRESS: ignored")
    assert line.endswith("did you mean SENSORIUM_VISION_…")
    assert "secret" not in line


def test_what_resembles_nothing_gets_the_list() -> None:
    (line,) = find_strays({"SENSORIUM_QQQQQQQQ_X": "1"}, SERVICES)
    assert "SENSORIUM_CALL_NOTES_" in line
