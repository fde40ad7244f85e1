"""Environment to settings: values, nesting, and every fault at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from shared.rpc.settings import RpcSettings
from shared.settings import Settings, SettingsError, load, state_dir


class BoundSettings(Settings):
    max_items: int = 32
    names: tuple[str, ...] = ()
    weights: dict[str, float] = Field(default_factory=dict)


class PartSettings(Settings):
    rpc: RpcSettings = RpcSettings()
    bounds: BoundSettings = BoundSettings()
    models_dir: Path | None = None
    golden_check: bool = True


class StrictSettings(Settings):
    api_token: int
    port: int


def test_defaults_stand_where_nothing_is_set() -> None:
    assert load(PartSettings, "vision", {}) == PartSettings()


def test_values_and_groups_are_read() -> None:
    loaded = load(
        PartSettings,
        "vision",
        {
            "SENSORIUM_VISION_RPC__ADDRESS": "unix:/tmp/a.sock",
            "SENSORIUM_VISION_RPC__DEFAULT_TIMEOUT_S": "2.5",
            "SENSORIUM_VISION_BOUNDS__MAX_ITEMS": "8",
            "SENSORIUM_VISION_MODELS_DIR": "/models",
            "SENSORIUM_VISION_GOLDEN_CHECK": "false",
            "SENSORIUM_NLP_MODELS_DIR": "/elsewhere",
            "PATH": "/bin",
        },
    )
    assert loaded.rpc.address == "unix:/tmp/a.sock"
    assert loaded.rpc.default_timeout_s == 2.5
    assert loaded.bounds.max_items == 8
    assert loaded.models_dir == Path("/models")
    assert loaded.golden_check is False


@pytest.mark.parametrize("text", ["a, b", '["a", "b"]', "a,b,"])
def test_lists_are_commas_or_json(text: str) -> None:
    assert load(PartSettings, "vision", {"SENSORIUM_VISION_BOUNDS__NAMES": text}).bounds.names == ("a", "b")


def test_mappings_are_json() -> None:
    loaded = load(PartSettings, "vision", {"SENSORIUM_VISION_BOUNDS__WEIGHTS": '{"a": 0.5}'})
    assert loaded.bounds.weights == {"a": 0.5}


def test_an_empty_variable_counts_as_unset() -> None:
    assert load(PartSettings, "vision", {"SENSORIUM_VISION_RPC__FRONT": ""}).rpc.front == "native"


def test_every_fault_is_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load(
            PartSettings,
            "vision",
            {
                "SENSORIUM_VISION_RPC__FRONT": "rust",
                "SENSORIUM_VISION_RPC__ADDRESS": "localhost",
                "SENSORIUM_VISION_RPC__MAX_MESSAGE_BYTES": "lots",
                "SENSORIUM_VISION_BOUNDS__WEIGHTS": "{",
                "SENSORIUM_VISION_BOUNDS": "1",
                "SENSORIUM_VISION_RPC__ADRESS": "x",
                "SENSORIUM_VISION_GOLDEN_CHECK__DEEP": "x",
            },
        )
    lines = str(caught.value).splitlines()
    faults = {line.partition(":")[0]: line for line in lines}
    assert len(faults) == len(lines) == 7
    assert "'native' or 'grpcio', got 'rust'" in faults["SENSORIUM_VISION_RPC__FRONT"]
    assert "expected host:port" in faults["SENSORIUM_VISION_RPC__ADDRESS"]
    assert "got 'localhost'" in faults["SENSORIUM_VISION_RPC__ADDRESS"]
    assert "integer" in faults["SENSORIUM_VISION_RPC__MAX_MESSAGE_BYTES"]
    assert "a JSON object" in faults["SENSORIUM_VISION_BOUNDS__WEIGHTS"]
    assert "joined by `__`" in faults["SENSORIUM_VISION_BOUNDS"]
    assert (
        "no such setting; did you mean SENSORIUM_VISION_RPC__ADDRESS"
        in faults["SENSORIUM_VISION_RPC__ADRESS"]
    )
    assert "no such setting" in faults["SENSORIUM_VISION_GOLDEN_CHECK__DEEP"]


def test_a_missing_value_is_named_and_a_secret_is_not_quoted() -> None:
    with pytest.raises(SettingsError) as caught:
        load(StrictSettings, "x", {"SENSORIUM_X_API_TOKEN": "hunter2"})
    text = str(caught.value)
    assert "SENSORIUM_X_PORT: expected a value, got none" in text
    assert "SENSORIUM_X_API_TOKEN" in text
    assert "hunter2" not in text


def test_settings_are_frozen() -> None:
    loaded = load(PartSettings, "vision", {})
    with pytest.raises(ValidationError):
        loaded.golden_check = False  # type: ignore[misc]


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:8000", "replica.local:65535", "unix:/tmp/x.sock"])
def test_addresses_that_are_taken(address: str) -> None:
    assert RpcSettings(address=address).address == address


@pytest.mark.parametrize(
    "address", ["", "8000", "localhost:", "localhost:65536", "::1:80", "unix:", "unix:/" + "x" * 110, "a:-1"]
)
def test_addresses_that_are_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="expected"):
        RpcSettings(address=address)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"SENSORIUM_STATE_DIR": "/s", "XDG_STATE_HOME": "/x"}, Path("/s")),
        ({"XDG_STATE_HOME": "/x"}, Path("/x/sensorium")),
        ({}, Path.home() / ".local" / "state" / "sensorium"),
    ],
)
def test_the_state_folder(environ: dict[str, str], expected: Path) -> None:
    assert state_dir(environ) == expected
