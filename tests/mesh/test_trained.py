"""Trained text models through the gateway: which of two defaults answers, languages, explanations, in every way to ask."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from sensorium import Client, errors
from sensorium.nlp.v1 import nlp_service_pb2 as pb
from sensorium.nlp.v1 import nlp_service_pb2_grpc as pb_grpc

from shared.inference.signature import OWN_KEYS
from tests.mesh.running import RunningMesh, run, running_mesh
from tests.services.nlp.trained import LANGUAGES, LETTERS, MOODS, WORDS, train
from tests.support.signing import UNSIGNED_ENVIRON

TIMEOUT_S = 60
REVIEW = "a dull script, but the acting is wonderful and I loved the ending"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[RunningMesh]:
    """Two replicas of the language service: the pulled model that compares, and two that were trained just now."""
    state = tmp_path_factory.mktemp("trained") / "state"
    models = state / "models" / "nlp"
    models.mkdir(parents=True)
    # With the key that signed the pulled one.
    (state / OWN_KEYS).parent.mkdir(parents=True)
    shutil.copy(models_dir.parent / OWN_KEYS, state / OWN_KEYS)
    (models / "minilm").symlink_to(models_dir / "nlp" / "minilm", target_is_directory=True)
    train(models, "sentiment", "ClassifyText", MOODS, WORDS)
    train(models, "language", "DetectLanguage", LANGUAGES, LETTERS, scripts=["Latin"])
    with running_mesh(state, "--replicas", "nlp=2,vision=0,speech=0", environ=UNSIGNED_ENVIRON) as running:
        yield running


@pytest.fixture(scope="module")
def client(mesh: RunningMesh) -> Iterator[Client]:
    with Client(mesh.address, token=mesh.token, timeout_s=TIMEOUT_S) as client:
        yield client


def post(mesh: RunningMesh, path: str, body: dict[str, object]) -> httpx.Response:
    headers = {"authorization": f"Bearer {mesh.token}"}
    return httpx.post(f"http://{mesh.address}/v1/{path}", json=body, headers=headers, timeout=TIMEOUT_S)


def test_labels_decide_which_default_answers(mesh: RunningMesh) -> None:
    with grpc.insecure_channel(mesh.address) as channel:
        stub = pb_grpc.NlpServiceStub(channel)
        for labels, name, best in (
            ([], "nlp/sentiment", "positive"),
            (["about films", "about food"], "nlp/minilm", "about films"),
        ):
            # Often enough that both replicas are asked.
            for _ in range(6):
                request = pb.ClassifyTextRequest(texts=["a wonderful film"], candidate_labels=labels)
                reply = stub.ClassifyText(request, metadata=mesh.metadata, timeout=TIMEOUT_S)
                assert (reply.model.name, reply.results[0].labels[0].label) == (name, best)


def test_the_same_in_json(mesh: RunningMesh) -> None:
    said = post(mesh, "texts:classify", {"texts": ["a wonderful film"]}).json()
    best = said["results"][0]["labels"][0]
    assert (said["model"]["name"], best["label"]) == ("nlp/sentiment", "positive")
    assert "similarity" not in best
    compared = post(
        mesh,
        "texts:classify",
        {"texts": ["a wonderful film"], "candidateLabels": ["about films", "about food"]},
    ).json()
    assert compared["model"]["name"] == "nlp/minilm"
    assert -1 <= compared["results"][0]["labels"][0]["similarity"] <= 1
    found = post(
        mesh, "texts:detectLanguage", {"texts": ["nous naissons tous libres"], "maxResults": 1}
    ).json()
    assert found["results"][0]["languages"][0]["code"] == "fr"
    why = post(mesh, "texts:explain", {"texts": [REVIEW], "label": "positive"}).json()["results"][0]
    assert {one["text"] for one in why["attributions"]} >= {"dull", "wonderful"}
    assert why["runCount"] <= 128


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"texts": ["x"], "model": "minilm"}, "name a model that has labels: sentiment"),
        (
            {"texts": ["x"], "model": "nlp/sentiment", "candidateLabels": ["a", "b"]},
            "name a model that compares with labels: minilm",
        ),
    ],
)
def test_labels_that_do_not_go_with_the_model(mesh: RunningMesh, body: dict[str, object], says: str) -> None:
    reply = post(mesh, "texts:classify", body)
    assert reply.status_code == 400
    violation = next(one for one in reply.json()["details"] if "fieldViolations" in one)["fieldViolations"][0]
    assert violation["field"] == "candidate_labels"
    assert says in reply.text


def test_from_python(client: Client) -> None:
    good, bad = client.classify_text(["a perfect gem", "a painful mess"])
    assert (good.label, bad.label, good.labels[0].similarity) == ("positive", "negative", None)
    found = client.detect_language([texts[0] for texts in LANGUAGES.values()])
    assert [one.language for one in found] == ["en", "de", "fr"]
    why = client.explain_text(REVIEW, label="positive")
    words = {one.text: one.attribution for one in why.attributions}
    assert words["dull"] < 0 < words["wonderful"]
    compared = client.explain_text("The striker won the cup.", ["about sports", "about food"], max_runs=32)
    assert (compared.model.name, compared.label) == ("nlp/minilm", "about sports")
    with pytest.raises(errors.InvalidArgument, match="label"):
        client.explain_text(REVIEW, label="neutral")
    limits = {limit.method.rpartition("/")[2]: limit for limit in client.limits()}
    assert limits["ExplainText"].max_runs == 1024
    assert limits["DetectLanguage"].max_items == 128


def test_what_would_be_late_is_refused_with_a_reason(client: Client) -> None:
    texts = " ".join(["The striker won the cup in the final minutes."] * 25)
    client.explain_text(texts, ["about sports", "about food"], max_runs=16)
    with pytest.raises(errors.DeadlineExceeded, match="explaining the texts takes about"):
        client.explain_text(texts, ["about sports", "about food"], max_runs=1024, timeout_s=3)


def test_from_the_command_line(mesh: RunningMesh) -> None:
    done = run([sys.executable, "-m", "cli", "nlp", "classify", "a perfect gem"], mesh)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].endswith("positive")
    done = run([sys.executable, "-m", "cli", "nlp", "language", "wir sind alle frei", "--json"], mesh)
    assert json.loads(done.stdout)["languages"][0]["code"] == "de"
    done = run([sys.executable, "-m", "cli", "nlp", "explain", REVIEW, "--label", "positive"], mesh)
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    dull = next(row for row in rows if row[1] == "dull")
    assert float(dull[0]) < 0
    assert set(dull[2]) == {"-"}
    done = run([sys.executable, "-m", "cli", "nlp", "explain", REVIEW, "--json", "--max-runs", "32"], mesh)
    assert json.loads(done.stdout)["run_count"] == 32


def test_of_two_defaults_the_one_that_is_gone_is_said(client: Client) -> None:
    client.unload_model("nlp/sentiment")
    try:
        with pytest.raises(errors.Unavailable, match="sentiment"):
            client.classify_text("a perfect gem")
        assert client.classify_text("a perfect gem", ["about films", "about food"]).model.name == "nlp/minilm"
    finally:
        client.load_model("nlp/sentiment", timeout_s=TIMEOUT_S)
    assert client.classify_text("a perfect gem").label == "positive"
