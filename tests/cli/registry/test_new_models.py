"""A model that no catalogue names: promoted the first time, shown, and what is refused of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.registry.key import own_trust
from shared.inference.artifact import read_artifact, verify
from shared.inference.signature import check_signature
from tests.cli.registry.conftest import MODEL, Shop
from tests.services.nlp.trained import MOODS, WORDS, train
from tests.support.artifact_copy import flip_bit


@pytest.mark.parametrize("name", ["ft", "nlp/ft"])
def test_it_becomes_version_1(shop: Shop, tmp_path: Path, name: str) -> None:
    folder = train(tmp_path / "run", "ft", "ClassifyText", MOODS, WORDS, version="5").folder
    code, said = shop.run_json("promote", name, str(folder))
    assert (code, said["model"], said["version"], said["serving"]) == (0, "nlp/ft", "1", "")
    assert said["gates"][-1] == {
        "gate": "not worse",
        "verdict": "passed",
        "reason": "nothing serves yet that it could be worse than",
    }
    made = read_artifact(shop.state / "models/nlp/ft/1")
    verify(made)
    assert check_signature(made, own_trust(shop.state))
    _, out, _ = shop.run("history", "ft", "--json")
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["promoted"]
    code, out, _ = shop.run("show", name)
    assert code == 0
    assert "nlp/ft  version 1" in out
    assert "graph model" in out
    assert (said := shop.run_json("show", name)[1])["pulled"] == str(made.folder)
    assert said["license"] == "MIT"
    for named in ([], [name]):
        _, out, _ = shop.run("list", *named, "--json")
        listed = {row["model"]: row for row in map(json.loads, out.splitlines())}
        assert listed["nlp/ft"]["pulled"] == str(made.folder)
        assert ("nlp/minilm" in listed) is (not named)
    # What comes after it is compared with it.
    code, said = shop.run_json("promote", name, str(folder), "--accept-undecided")
    assert (code, said["version"], said["serving"]) == (0, "2", "1")


def test_its_other_gates_hold(shop: Shop, tmp_path: Path) -> None:
    folder = train(tmp_path / "run", "ft", "ClassifyText", MOODS, WORDS).folder
    flip_bit(folder)
    code, said = shop.run_json("promote", "ft", str(folder))
    assert (code, said["gates"][0]["verdict"]) == (1, "failed")
    assert not (shop.state / "models/nlp/ft").exists()
    # What was refused is on record, though there is no version yet.
    _, out, _ = shop.run("history", "ft", "--json")
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["refused"]


def test_its_name_and_service_must_be_those_of_the_candidate(shop: Shop, tmp_path: Path) -> None:
    folder = train(tmp_path / "run", "ft", "ClassifyText", MOODS, WORDS).folder
    for name in ("tf", "vision/ft"):
        code, _, err = shop.run("promote", name, str(folder))
        assert code == 2
        assert f"no model is called '{name}'" in err
        assert "call it nlp/ft" in err
    path = folder / "artifact.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "service": "os"}))
    code, _, err = shop.run("promote", "ft", str(folder))
    assert code == 2
    assert "service: expected one of nlp, speech, vision, got 'os'" in err
    assert not (shop.state / "registry").exists()


def test_a_model_that_is_there_is_no_new_one(shop: Shop, tmp_path: Path) -> None:
    folder = train(tmp_path / "run", "ft", "ClassifyText", MOODS, WORDS).folder
    code, _, err = shop.run("promote", MODEL, str(folder))
    assert code == 2
    assert "expected an artifact of nlp/moods, got one of nlp/ft" in err


def test_show_of_nothing(shop: Shop) -> None:
    code, _, err = shop.run("show", "ft")
    assert code == 2
    assert "no model is called 'ft'" in err
    assert "nlp/moods" in err
