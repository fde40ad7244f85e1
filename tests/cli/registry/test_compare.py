"""`sensorium models compare`, `verify` and `sign` as their user meets them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cli.__main__ import main
from shared.inference.artifact import read_artifact
from tests.cli.registry.conftest import MODEL, TURNED, Shop, make_candidate
from tests.services.nlp.trained import MOODS, WORDS, train
from tests.support.artifact_copy import flip_bit
from tests.support.signing import sign_models


def test_a_table_and_its_exit_codes(shop: Shop, tmp_path: Path) -> None:
    shop.hold_out()
    candidate = make_candidate(tmp_path / "run", TURNED)
    code, out, err = shop.run("compare", MODEL, str(candidate.folder))
    assert code == 1
    assert "nlp/moods on 240 held-out items (moods-test)" in out
    assert re.search(r"accuracy +1\.0000 +0\.0000 +-1\.0000 +-1\.0000 to -0\.96", out)
    assert "accuracy, even (120)" in out
    assert "failed: it is worse" in out
    assert "asking nlp/moods 1 about 240 items" in err
    # The other way round it is better; both named.
    train(shop.state / "models" / "nlp", "moods", "ClassifyText", TURNED, WORDS, version="2")
    code, said = shop.run_json("compare", MODEL, "1", "2")
    assert (code, said["verdict"], said["paired"]["gained"]) == (0, "passed", 240)
    assert (said["old"]["accuracy"], said["new"]["accuracy"]) == (0.0, 1.0)
    assert set(said["slices"]) == {"even", "odd"}


def test_too_few_to_tell(shop: Shop) -> None:
    shop.hold_out(12)
    code, said = shop.run_json("compare", MODEL, "1")
    assert (code, said["verdict"]) == (3, "undecided")


def test_items_that_cannot_be_used(shop: Shop) -> None:
    code, _, err = shop.run("compare", MODEL, "1")
    assert code == 1
    assert "has no held-out items" in err
    shop.hold_out(12)
    with (shop.state / "heldout/nlp/moods/items.jsonl").open("a") as file:
        file.write(json.dumps({"text": "more", "label": "positive"}) + "\n")
    code, _, err = shop.run("compare", MODEL, "1")
    assert code == 1
    assert "they were changed" in err


def test_verify_names_what_is_wrong(shop: Shop) -> None:
    models = shop.state / "models" / "nlp"
    for version in ("2", "3"):
        train(models, "moods", "ClassifyText", MOODS, WORDS, version=version)
    code, out, _ = shop.run("verify")
    assert code == 1
    assert "nlp/moods 1  whole    signed by" in out
    assert "nlp/moods 2  refused  it is not signed" in out
    code, out, _ = shop.run("sign", MODEL)
    assert code == 0
    assert out.count("signed  key") == 3
    assert shop.run("verify", "moods")[0] == 0
    flip_bit(models / "moods" / "3")
    code, out, _ = shop.run("verify", MODEL, "--json")
    assert code == 1
    said = [json.loads(line) for line in out.splitlines()]
    assert [line["state"] for line in said] == ["whole", "whole", "refused"]
    assert "model.onnx: expected sha256" in said[2]["reason"]
    # Who signs vouches for what is there; what is damaged is not signed.
    code, out, _ = shop.run("sign", str(models / "moods" / "3"))
    assert code == 1
    assert "not signed  model.onnx" in out


def test_another_machine_verifies_with_the_public_half(shop: Shop, tmp_path: Path) -> None:
    candidate = make_candidate(tmp_path / "models" / "nlp")
    sign_models(tmp_path)
    public = tmp_path / "keys" / "artifacts" / "jwks.json"
    assert "d" not in json.loads(public.read_text())["keys"][0]
    assert (public.parent / "signing.pem").stat().st_mode & 0o077 == 0
    code, out, _ = shop.run("verify", str(candidate.folder))
    assert code == 1
    assert "which is not trusted" in out
    assert shop.run("verify", str(candidate.folder), "--trusted", str(public))[0] == 0
    assert read_artifact(candidate.folder).version == "1"


@pytest.mark.parametrize("command", ["promote", "rollback", "compare", "history", "verify", "sign"])
def test_every_command_helps(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", command, "--help"]) == 0
    assert f"Usage: sensorium models {command}" in capsys.readouterr().out
