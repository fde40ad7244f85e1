"""The door: bytes, budgets, names of models, and permits that come back."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pool
from google.rpc import error_details_pb2
from sensorium.nlp.v1 import nlp_service_pb2
from sensorium.oip.v2 import inference_pb2
from sensorium.speech.v1 import speech_service_pb2
from sensorium.vision.v1 import vision_service_pb2

from shared.errors import ResourceExhausted
from shared.rpc.admission.admission import Admission, Door, Permit, admit_message, read_model_name, set_door
from shared.rpc.admission.settings import AdmissionSettings, PrincipalSettings
from shared.rpc.caller import ANONYMOUS, Caller
from shared.rpc.report import Report, set_report

ALICE, BOB = Caller("alice"), Caller("bob", "gold")


def make_door(**settings: object) -> tuple[Admission, Door]:
    admission = Admission(AdmissionSettings.model_validate(settings))
    return admission, admission.open_door("sensorium.stub.v1.StubService", "Infer")


def enter(
    door: Door, caller: Caller = ANONYMOUS, *, n_bytes: int = 0, name: bytes = b"", at_s: float = 0.0
) -> Permit:
    return door.enter(name, n_bytes, caller, at_s)


def ran(model: str = "stub/model", compute_s: float = 0.0, share: float = 1.0) -> Report:
    report = Report()
    report.add(0.0, 0.0, compute_s, 1, model, "1", share=share)
    return report


def queued(model: str, queue_s: float) -> Report:
    report = Report()
    report.add(queue_s, 0.0, 0.0, 1, model, "1")
    return report


def test_the_model_s_name_is_field_1_of_every_request_that_has_one() -> None:
    found = []
    for module in (vision_service_pb2, nlp_service_pb2, speech_service_pb2):
        services = module.DESCRIPTOR.services_by_name.values()
        for method in (method for service in services for method in service.methods):
            if (field := method.input_type.fields_by_name.get("model")) is not None:
                found.append(field.number)
    infer = descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")
    found.append(infer.fields_by_name["model_name"].number)
    assert len(found) > 5
    assert set(found) == {1}


def test_the_model_s_name_is_read_before_the_message_is_parsed() -> None:
    request = inference_pb2.ModelInferRequest(model_name="minilm", id="7", raw_input_contents=[b"x" * 100])
    assert read_model_name(request.SerializeToString()) == b"minilm"
    assert read_model_name(inference_pb2.ModelInferRequest(id="7").SerializeToString()) == b""
    assert read_model_name(b"") == read_model_name(b"\n") == b""


def test_calls_in_flight_are_bounded_over_all_models() -> None:
    _, door = make_door(max_in_flight=2)
    permits = [enter(door, name=name) for name in (b"a", b"b")]
    with pytest.raises(ResourceExhausted, match="calls in flight on this replica"):
        enter(door, name=b"c")
    permits[0].leave(None, 1.0, answered=False)
    enter(door, name=b"c")
    assert door.refused == {"OVERLOADED": 1}


def test_bytes_in_flight_are_bounded_and_one_message_alone_passes() -> None:
    admission, door = make_door(max_bytes_in_flight=1000)
    large = enter(door, n_bytes=5000)
    with pytest.raises(ResourceExhausted, match="the limit is 1000 bytes at a time"):
        enter(door, n_bytes=1)
    large.leave(None, 1.0, answered=False)
    assert admission.bytes_in_flight == 0
    first, second = enter(door, n_bytes=400), enter(door, n_bytes=600)
    with pytest.raises(ResourceExhausted):
        enter(door, n_bytes=1)
    for permit in (first, second):
        permit.leave(None, 1.0, answered=True)
    assert (admission.bytes_in_flight, admission.in_flight) == (0, 0)


def test_a_principal_has_so_many_calls_at_a_time() -> None:
    _, door = make_door(principal=PrincipalSettings(max_in_flight=1))
    permit = enter(door, ALICE)
    with pytest.raises(ResourceExhausted, match="calls in flight of principal alice") as caught:
        enter(door, ALICE)
    assert caught.value.reason == "PRINCIPAL_CALLS"
    enter(door, BOB)
    permit.leave(None, 1.0, answered=True)
    enter(door, ALICE)


def test_a_principal_is_charged_with_what_his_calls_took() -> None:
    _, door = make_door(principal=PrincipalSettings(compute_s_per_s=0.5, burst_s=1.0))
    enter(door, ALICE).leave(ran(compute_s=0.9), 0.0, answered=True)
    # The one that ends the credit is still answered; failed calls are paid for as well.
    enter(door, ALICE).leave(ran(compute_s=4.0, share=0.25), 0.0, answered=False)
    with pytest.raises(
        ResourceExhausted, match=r"seconds of model runs of principal alice.*0\.5 a second"
    ) as caught:
        enter(door, ALICE)
    assert caught.value.retry_after_s == pytest.approx(1.8)
    (retry,) = [one for one in caught.value.details if isinstance(one, error_details_pb2.RetryInfo)]
    assert retry.retry_delay.ToNanoseconds() == pytest.approx(1.8e9)
    enter(door, BOB)
    enter(door, ALICE, at_s=1.9)


def test_a_tier_has_budgets_of_its_own() -> None:
    _, door = make_door(principal=PrincipalSettings(max_in_flight=1), tiers={"gold": PrincipalSettings()})
    for _ in range(10):
        enter(door, BOB)
    enter(door, ALICE)
    with pytest.raises(ResourceExhausted):
        enter(door, ALICE)


def test_accounts_of_callers_who_are_gone_are_closed() -> None:
    admission, door = make_door(principal=PrincipalSettings(compute_s_per_s=1.0, burst_s=1.0))
    for index in range(10_000):
        enter(door, Caller(f"principal {index}"), at_s=float(index)).leave(
            ran(compute_s=0.5), 0.0, answered=True
        )
    assert admission.ledger.accounts <= 4096


def test_all_names_of_a_model_share_its_limit_and_names_of_nothing_are_forgotten() -> None:
    _, door = make_door()
    for name in (b"", b"model", b"stub/model"):
        enter(door, name=name).leave(ran("stub/model"), 1.0, answered=True)
    assert list(door.limits) == ["stub/model"]
    held = [enter(door, name=name) for name in (b"", b"model", b"stub/model")]
    assert door.limits["stub/model"].in_flight == 3
    for permit in held:
        permit.leave(ran("stub/model"), 1.0, answered=True)
    for index in range(10_000):
        enter(door, name=b"nothing %d" % index).leave(None, 1.0, answered=False)
    assert door.names == 3


def test_made_up_names_take_no_memory_and_share_one_limit_even_if_a_model_answers() -> None:
    # A message may hold a made-up name before the one by which it is served.
    _, door = make_door(min_in_flight=4, max_queue_wait_s=0.1)
    enter(door, name=b"model").leave(ran("stub/model"), 0.02, answered=True)
    for index in range(10_000):
        enter(door, name=b"nothing %d" % index).leave(ran("stub/model"), 0.02, answered=True)
    assert door.names == 1
    held = [enter(door, name=b"nothing %d" % index) for index in range(1000)]
    for at_s in range(1, 5):
        for permit in held[at_s * 10 : at_s * 10 + 10]:
            permit.leave(queued("stub/model", 0.5 * at_s), at_s, answered=True)
    with pytest.raises(ResourceExhausted, match="calls of model nothing in flight"):
        held += [enter(door, name=b"nothing", at_s=5.0) for _ in range(1000)]


def test_names_of_graphs_are_learned_and_no_more_than_a_door_remembers() -> None:
    _, door = make_door()
    for index in range(1000):
        enter(door, name=b"stub/model.%d" % index).leave(ran("stub/model"), 1.0, answered=True)
    assert list(door.limits) == ["stub/model"]
    assert door.names == 256
    # Whoever fills it keeps no other model from a limit of its own.
    enter(door, name=b"other").leave(ran("stub/other"), 1.0, answered=True)
    held = enter(door, name=b"other")
    assert (door.names, door.limits["stub/other"].in_flight) == (256, 1)
    held.leave(ran("stub/other"), 1.0, answered=True)


def test_calls_without_a_name_that_several_models_answer_keep_nobody_else_out() -> None:
    _, door = make_door(min_in_flight=4, max_queue_wait_s=0.1)
    for model in ("stub/one", "stub/other", "stub/one"):
        enter(door).leave(ran(model), 1.0, answered=True)
    enter(door, name=b"other").leave(ran("stub/other"), 1.0, answered=True)
    held = [enter(door), enter(door, name=b"other")]
    assert [door.limits[name].in_flight for name in ("stub/one", "stub/other")] == [0, 1]
    for permit in held:
        permit.leave(ran("stub/one"), 1.0, answered=True)
    # Nor does their overload, neither from models that have not answered yet, nor by becoming one's own.
    held = [enter(door) for _ in range(1000)]
    for at_s in range(1, 5):
        for permit in held[at_s * 10 : at_s * 10 + 10]:
            permit.leave(queued("stub/one", 0.5 * at_s), at_s, answered=True)
    with pytest.raises(ResourceExhausted):
        held += [enter(door, at_s=5.0) for _ in range(1000)]
    for _ in range(50):
        enter(door, name=b"third", at_s=5.0).leave(ran("stub/third"), 5.0, answered=True)
    assert not door.limits["stub/third"].overloaded
    assert door.limits["stub/third"].in_flight == 0


def test_a_call_that_ended_in_its_preparation_does_not_hide_the_model_that_was_asked_for() -> None:
    _, door = make_door()
    whole = ran("stub/preparing")
    whole.add(0.0, 0.0, 0.0, 1, "stub/model", "1")
    for report in (ran("stub/preparing"), whole, ran("stub/preparing"), whole):
        enter(door).leave(report, 1.0, answered=True)
    held = enter(door)
    assert door.limits["stub/model"].in_flight == 1
    held.leave(whole, 1.0, answered=True)


def test_accounts_without_a_budget_of_seconds_are_closed_too() -> None:
    admission, door = make_door(principal=PrincipalSettings(max_in_flight=1))
    for index in range(10_000):
        enter(door, Caller(f"principal {index}"), at_s=float(index)).leave(
            ran(compute_s=0.5), 0.0, answered=True
        )
    assert admission.ledger.accounts <= 4096


async def test_a_message_of_a_stream_takes_a_permit_and_its_figures_reach_the_call_s_report() -> None:
    admission, door = make_door()
    set_door(door)
    call = Report()
    set_report(call)
    with admit_message("model", 100) as admitted:
        assert (admission.in_flight, admission.bytes_in_flight) == (1, 100)
        admitted.report.add(0.1, 0.0, 0.2, 4, "stub/model", "1", share=0.25)
    assert (admission.in_flight, admission.bytes_in_flight) == (0, 0)
    assert (call.queue_s, call.compute_s, call.models) == (0.1, 0.2, ("stub/model@1",))
    assert call.cost_s == pytest.approx(0.05)
    assert list(door.limits) == ["stub/model"]
