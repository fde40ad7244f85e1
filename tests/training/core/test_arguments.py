"""The command line that all scripts share."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.training.arguments import make_parser
from tests.training.core import train_digits


def test_help_shows_the_commands_and_every_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train_digits.get_args_parser().parse_args(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "    python -m tests.training.core.train_digits --out DIR\n" in shown
    for option in ("data", "out", "epochs", "batch-size", "learning-rate", "weight-decay", "seed", "threads"):
        assert f"--{option}" in shown
    for option in ("device", "precision", "patience", "fresh", "limit", "checkpoint-every"):
        assert f"--{option}" in shown
    assert "(default: 6)" in shown
    assert "(default: 0.01)" in shown


def test_data_lie_in_the_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORIUM_STATE_DIR", "/state")
    parsed = make_parser(None, epochs=1, batch_size=1, learning_rate=1).parse_args([])
    assert parsed.data == Path("/state/datasets")
    assert parsed.out is None


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--epochs=0", "--epochs: expected a whole number of at least 1, got '0'"),
        ("--epochs=many", "--epochs: expected a whole number of at least 1, got 'many'"),
        ("--batch-size=1.5", "--batch-size: expected a whole number of at least 1, got '1.5'"),
        ("--learning-rate=0", "--learning-rate: expected a number above 0, at most 3.4e38, got '0'"),
        ("--learning-rate=nan", "--learning-rate: expected a number above 0, at most 3.4e38, got 'nan'"),
        ("--learning-rate=inf", "--learning-rate: expected a number above 0, at most 3.4e38, got 'inf'"),
        ("--weight-decay=-1", "--weight-decay: expected a number of at least 0, at most 3.4e38, got '-1'"),
        ("--patience=-1", "--patience: expected a whole number of at least 0, got '-1'"),
        ("--precision=int8", "--precision: invalid choice"),
        ("--device=tpu", "--device: invalid choice"),
        ("--epoch=3", "unrecognized arguments: --epoch=3"),
    ],
)
def test_a_bad_value_says_what_was_expected(
    argument: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        make_parser(None, epochs=1, batch_size=1, learning_rate=1).parse_args([argument])
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err
