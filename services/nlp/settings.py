"""Settings of the language service: `SENSORIUM_NLP_<GROUP>__<FIELD>`."""

from services.nlp.limits import Bounds
from shared.inference.settings import InferenceSettings
from shared.rpc.settings import RpcSettings
from shared.settings import Settings


class NlpSettings(Settings):
    """Where it listens, what runs the models, what it accepts."""

    rpc: RpcSettings = RpcSettings()
    inference: InferenceSettings = InferenceSettings()
    bounds: Bounds = Bounds()
