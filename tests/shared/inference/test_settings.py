"""Settings of a service's models: what holds for one model, and messages for what is wrong."""

import pytest

from services.nlp.settings import NlpSettings
from shared.inference.settings import InferenceSettings, ModelSettings
from shared.inference.tuning.values import TunedValues
from shared.settings import SettingsError, load

PREFIX = "SENSORIUM_NLP_INFERENCE__"


def test_a_model_has_what_the_service_has() -> None:
    settings = InferenceSettings(cores=3, max_batch_size=4, spinning=True)
    own = settings.for_model("minilm")
    assert (own.max_batch_size, own.spinning, own.instances) == (4, True, 1)


def test_threads_are_the_replicas_cores_where_nothing_is_said() -> None:
    assert InferenceSettings(cores=3).for_model("minilm").intra_op_threads == 3
    assert InferenceSettings(cores=3, intra_op_threads=2).for_model("minilm").intra_op_threads == 2


def test_what_is_said_for_a_model_holds_for_that_one() -> None:
    settings = InferenceSettings(
        instances=2, intra_op_threads=2, models={"minilm": ModelSettings(intra_op_threads=1)}
    )
    assert settings.for_model("minilm").intra_op_threads == 1
    assert settings.for_model("minilm").instances == 2
    assert settings.for_model("other").intra_op_threads == 2


def test_a_default_that_is_said_for_a_model_is_no_default() -> None:
    settings = InferenceSettings(instances=4, models={"minilm": ModelSettings(instances=1)})
    assert settings.for_model("minilm").instances == 1


TUNED = TunedValues(max_batch_size=8, target_batch_s=0.05, intra_op_threads=2, instances=3)


def test_what_tuning_found_holds_where_nothing_is_said() -> None:
    settings = InferenceSettings(cores=8, max_batch_size=4, models={"minilm": ModelSettings(instances=1)})
    own = settings.for_model("minilm", TUNED)
    assert (own.max_batch_size, own.instances) == (4, 1)
    assert (own.intra_op_threads, own.target_batch_s) == (2, 0.05)
    assert settings.list_tuned("minilm", TUNED) == {"intra_op_threads": 2, "target_batch_s": 0.05}


@pytest.mark.parametrize(
    ("cores", "threads", "instances"), [(8, 2, 3), (6, 2, 3), (4, 2, 2), (2, 2, 1), (1, 1, 1)]
)
def test_what_tuning_found_fits_into_the_cores_of_the_replica(
    cores: int, threads: int, instances: int
) -> None:
    own = InferenceSettings(cores=cores).for_model("minilm", TUNED)
    assert (own.intra_op_threads, own.instances) == (threads, instances)


def test_providers_have_short_names() -> None:
    settings = InferenceSettings(providers=("tensorrt", "CUDA", "openvino", "XyzExecutionProvider", "cpu"))
    assert settings.for_model("minilm").providers == (
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "OpenVINOExecutionProvider",
        "XyzExecutionProvider",
        "CPUExecutionProvider",
    )


def test_models_are_set_by_one_variable_of_json() -> None:
    environ = {
        f"{PREFIX}MODELS": '{"minilm": {"instances": 2, "max_batch_size": 16}}',
        f"{PREFIX}INSTANCES": "3",
    }
    settings = load(NlpSettings, "nlp", environ).inference
    assert settings.for_model("minilm").instances == 2
    assert settings.for_model("minilm").max_batch_size == 16
    assert settings.for_model("other").instances == 3


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{"minilm": {"instances": 0}}', "greater than or equal to 1"),
        ('{"minilm": {"instnces": 2}}', "extra inputs are not permitted"),
        ("minilm=2", "a JSON object"),
    ],
)
def test_what_is_wrong_with_a_models_settings_is_said(value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"{PREFIX}MODELS.*{message}"):
        load(NlpSettings, "nlp", {f"{PREFIX}MODELS": value})
