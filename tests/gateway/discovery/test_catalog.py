"""What the models' names mean, given what the replicas say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.discovery.catalog import Catalog
from gateway.discovery.roster import (
    ModelStatus,
    Replica,
    Report,
    Roster,
    Rotation,
    State,
    find_default_endpoints,
)
from shared.errors import FailedPrecondition, NotFound
from tests.gateway.support.toy import model


def replica(service: str, endpoint: str, *models: Any, state: State = State.READY) -> Replica:
    return Replica(service, endpoint, state, "", report=Report(service=service, models=models), heard=True)


CATALOG = Catalog(
    ["vision", "nlp", "empty"],
    [
        replica(
            "vision",
            "a:1",
            model("cat", default_for=("Classify",)),
            model("ocr", graphs=("ocr.det", "ocr.rec")),
        ),
        replica(
            "vision",
            "a:2",
            model("cat", ready=False, reason="its digest differs"),
            model("late", ready=False),
        ),
        replica("vision", "a:3", model("gone", default_for=("Find",)), state=State.DRAINING),
        replica("nlp", "b:1", model("cat"), model("words")),
    ],
)


@pytest.mark.parametrize(
    ("name", "service", "found"),
    [
        ("words", None, ("nlp", "words")),
        ("nlp/cat", None, ("nlp", "cat")),
        ("cat", "vision", ("vision", "cat")),
        ("vision/cat", "vision", ("vision", "cat")),
        ("ocr.det", None, ("vision", "ocr.det")),
        ("vision/ocr.rec", None, ("vision", "ocr.rec")),
        ("gone", None, ("vision", "gone")),
        # What graphs it has is not known while nobody has it open.
        ("late.det", None, ("vision", "late.det")),
    ],
)
def test_names_that_mean_something(name: str, service: str | None, found: tuple[str, str]) -> None:
    assert CATALOG.find(name, service) == found


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("", None),
        ("ocr.none", None),
        ("cat.det", None),
        ("dog", None),
        ("nlp/ocr", None),
        ("nlp/words", "vision"),
        ("vision/nlp/cat", None),
        ("empty/cat", None),
    ],
)
def test_names_that_mean_nothing(name: str, service: str | None) -> None:
    with pytest.raises(NotFound):
        CATALOG.find(name, service)


def test_an_ambiguous_name_lists_its_candidates() -> None:
    with pytest.raises(FailedPrecondition, match="vision/cat, nlp/cat"):
        CATALOG.find("cat")
    assert not CATALOG.is_unique("cat")
    assert CATALOG.is_unique("words")


def test_what_is_ready() -> None:
    assert CATALOG.ready_models("vision") == {"cat", "ocr"}
    assert CATALOG.ready_names("vision") == {"cat", "ocr", "ocr.det", "ocr.rec"}
    assert CATALOG.default_ready("vision", "Classify") is True
    assert CATALOG.default_ready("vision", "Find") is False
    assert CATALOG.default_ready("vision", "Read") is None


def test_why_something_is_not() -> None:
    assert "of 3 replicas: 2 ready, 1 draining" in CATALOG.explain("vision", "gone").message
    assert CATALOG.explain_service("empty") == "the gateway knows of no replica"


def test_models_over_all_replicas() -> None:
    found = {(known.service, known.status.name): known for known in CATALOG.models()}
    cat = found["vision", "cat"]
    assert (cat.status.state, cat.ready_replicas, cat.replicas) == (ModelStatus.STATE_READY, 1, 2)
    gone = found["vision", "gone"]
    assert (gone.status.state, gone.ready_replicas) == (ModelStatus.STATE_UNAVAILABLE, 0)
    assert gone.status.reason == "its replica is draining"


def test_a_replica_whose_version_serves_though_its_folder_was_damaged_counts_once() -> None:
    damaged = model("cat", ready=False, reason="card.md is missing")
    (cat,) = Catalog(["vision"], [replica("vision", "a:1", model("cat"), damaged)]).models()
    assert (cat.status.state, cat.ready_replicas, cat.replicas) == (ModelStatus.STATE_READY, 1, 1)


def test_the_roster_keeps_what_was_said_last() -> None:
    roster = Roster()
    roster.insert("vision", "a:1")
    assert roster.replicas[0].state is State.UNREACHABLE
    roster.report("vision", "a:1", Report(service="vision", models=[model("cat", ready=False)]))
    assert roster.replicas[0].state is State.STARTING
    roster.report("vision", "a:1", Report(service="vision", models=[model("cat")]))
    roster.lose("vision", "a:1", "refused")
    (lost,) = roster.replicas
    assert (lost.state, lost.reason, lost.ready_names) == (State.UNREACHABLE, "refused", set())
    assert [one.name for one in lost.report.models] == ["cat"]
    roster.report("vision", "a:1", Report(service="vision", draining=True))
    assert roster.replicas[0].state is State.DRAINING
    roster.remove("vision", "a:1")
    roster.report("vision", "a:1", Report(service="vision"))
    assert roster.replicas == ()


def test_versions_that_only_some_replicas_have() -> None:
    def versioned(version: str) -> Any:
        made = model("cat", graphs=("cat.a", "cat.b"))
        made.version = version
        return made

    one, both = (
        replica("vision", "a:1", versioned("1")),
        replica("vision", "a:2", versioned("1"), versioned("2")),
    )
    assert Catalog(["vision"], [both]).split_versions("vision") == set()
    assert Catalog(["vision"], [one, both]).split_versions("vision") == {
        ("cat", "2"), ("cat.a", "2"), ("cat.b", "2"),
    }  # fmt: skip
    # Who lacks the model altogether is no reason to tell its versions apart.
    assert (
        Catalog(["vision"], [both, replica("vision", "a:3", model("dog"))]).split_versions("vision") == set()
    )


def test_ready_is_what_calls_reach() -> None:
    said = replica("vision", "a:1", model("cat"), model("late", ready=False))
    assert said.served.state is State.STARTING
    assert [one.state for one in said.served.report.models] == [
        ModelStatus.STATE_LOADING, ModelStatus.STATE_UNAVAILABLE,
    ]  # fmt: skip
    ill = replace(said, rotation=Rotation(reason="its checks fail"))
    assert (ill.served.state, ill.served.reason) == (State.UNREACHABLE, "its checks fail")
    taken = replace(said, rotation=Rotation(frozenset({"cat@1"})))
    assert taken.served == taken
    # A model that is new to a replica in rotation is not: nothing else of it is.
    more = replace(taken, report=Report(service="vision", models=[model("cat"), model("dog")]))
    assert more.served.state is State.READY
    assert more.served.ready_names == {"cat"}


def test_what_the_data_plane_does_ends_with_the_process() -> None:
    roster = Roster()
    roster.insert("vision", "a:1")
    first, second = (Report(service="vision", instance_id=name) for name in ("first", "second"))
    taken = Rotation(frozenset())
    roster.report("vision", "a:1", first)
    (old,) = roster.of("vision")
    roster.rotate(old, taken)
    assert roster.of("vision")[0].rotation == taken
    roster.report("vision", "a:1", second)
    assert roster.of("vision")[0].rotation == Rotation()
    # What is heard late of the process before it is not about this one.
    roster.rotate(old, taken)
    assert roster.of("vision")[0].rotation == Rotation()
    roster.rotate(roster.of("vision")[0], taken)
    roster.lose("vision", "a:1", "refused")
    assert roster.of("vision")[0].rotation == Rotation()


def test_a_call_without_a_model_goes_where_all_defaults_of_its_rpc_are() -> None:
    trained = model("trained", default_for=("Classify", "Explain"))
    comparing = model("comparing", default_for=("Embed", "Classify/labels"))
    late = model("comparing", ready=False, default_for=("Embed", "Classify/labels"))
    both = replica("nlp", "a:1", trained, comparing)
    one = replica("nlp", "a:2", trained, late)
    found = find_default_endpoints([both, one])
    assert found == {"Classify": {"a:1"}, "Explain": {"a:1", "a:2"}, "Embed": {"a:1"}}
    # Better one that can answer some of them than none.
    other = replica("nlp", "a:3", model("trained", ready=False, default_for=("Classify",)), comparing)
    assert find_default_endpoints([one, other])["Classify"] == {"a:2", "a:3"}
    # What nobody has holds nobody back.
    assert find_default_endpoints([one])["Classify"] == {"a:2"}


@pytest.mark.parametrize(
    ("trained", "comparing", "ready"), [(True, True, True), (True, False, True), (False, False, False)]
)
def test_an_rpc_with_two_defaults_is_ready_where_one_is(trained: bool, comparing: bool, ready: bool) -> None:
    catalog = Catalog(
        ["nlp"],
        [
            replica(
                "nlp",
                "a:1",
                model("trained", ready=trained, default_for=("Classify",)),
                model("comparing", ready=comparing, default_for=("Classify/labels",)),
                model("other"),
            )
        ],
    )
    assert catalog.default_ready("nlp", "Classify") is ready
    assert catalog.default_ready("nlp", "Embed") is None
