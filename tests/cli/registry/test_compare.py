"""`sensorium models compare`, `verify` and `sign` as their user meets them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from cli.__main__ import main
from cli.place import ROOT
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
    assert "nlp/moods on 800 held-out items (moods-test)" in out
    assert re.search(r"accuracy +1\.0000 +0\.0000 +-1\.0000 +-1\.0000 to -0\.99", out)
    assert "accuracy, even (400)" in out
    assert "failed: it is worse" in out
    assert f"old: serving 1; new: candidate ({candidate.folder})" in out
    assert re.search(r"METRIC +SERVING 1 +CANDIDATE +DIFFERENCE", out)
    assert "asking nlp/moods, serving 1 about 800 items" in err
    assert f"asking nlp/moods, candidate ({candidate.folder}) about 800 items" in err
    # The other way round it is better; both named.
    train(shop.state / "models" / "nlp", "moods", "ClassifyText", TURNED, WORDS, version="2")
    code, said = shop.run_json("compare", MODEL, "1", "2")
    assert (code, said["verdict"], said["paired"]["gained"]) == (0, "passed", 800)
    assert (said["old"]["accuracy"], said["new"]["accuracy"]) == (0.0, 1.0)
    assert (said["old"]["what"], said["new"]["what"]) == ("serving 2", "version 1")
    assert set(said["slices"]) == {"even", "odd"}


def test_too_few_to_tell(shop: Shop) -> None:
    shop.hold_out(12)
    code, said = shop.run_json("compare", MODEL, "1")
    assert (code, said["verdict"]) == (3, "undecided")
    assert shop.run_json("compare", MODEL, "1", "--margin", "0.5")[0] == 0


def test_items_that_cannot_be_used(shop: Shop) -> None:
    code, _, err = shop.run("compare", MODEL, "1")
    assert code == 3
    assert "there are no held-out items" in err
    assert "write_heldout" in err
    shop.hold_out(12)
    with (shop.state / "heldout/nlp/moods/items.jsonl").open("a") as file:
        file.write(json.dumps({"text": "more", "label": "positive"}) + "\n")
    code, _, err = shop.run("compare", MODEL, "1")
    assert code == 3
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


def test_the_command_that_makes_the_items_is_named(shop: Shop, tmp_path: Path) -> None:
    digits = ROOT / "services/vision/models/digits/1"
    shutil.copytree(digits, shop.state / "models/vision/digits/1")
    code, _, err = shop.run("compare", "digits", str(digits))
    assert code == 3
    assert "heldout/vision/digits is missing; `make train-digits` writes it" in err
    # A training that is not ours is known by what artifact.json says of it.
    candidate = make_candidate(tmp_path / "run")
    path = candidate.folder / "artifact.json"
    path.write_text(
        json.dumps({**json.loads(path.read_bytes()), "made": {"command": "python -m my.training"}})
    )
    code, _, err = shop.run("compare", MODEL, str(candidate.folder))
    assert code == 3
    assert "releases what it has trained: python -m my.training" in err


def test_a_history_of_nothing(shop: Shop) -> None:
    assert shop.run("history", MODEL)[1].startswith("nlp/moods has no history")
    assert shop.run("history", MODEL, "--json")[1] == ""


@pytest.mark.parametrize("command", ["promote", "rollback", "compare", "history", "verify", "sign"])
def test_every_command_helps(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", command, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"Usage: sensorium models {command}" in said
    assert "{name}" not in said
    assert "[[" not in said


def test_an_artifact_json_that_has_no_end_is_refused(shop: Shop, tmp_path: Path) -> None:
    candidate = make_candidate(tmp_path / "run")
    with (candidate.folder / "artifact.json").open("r+b") as file:
        file.truncate(1 << 40)
    code, out, _ = shop.run("verify", str(candidate.folder))
    assert code == 1
    assert "artifact.json: expected at most 8388608 bytes, got more" in out
