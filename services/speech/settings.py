"""Settings of the speech service: `SENSORIUM_SPEECH_<GROUP>__<FIELD>`."""

from services.speech.limits import Bounds
from shared.inference.settings import InferenceSettings
from shared.rpc.settings import RpcSettings
from shared.settings import Settings


class SpeechSettings(Settings):
    """Where it listens, what runs the models, what it accepts."""

    rpc: RpcSettings = RpcSettings()
    inference: InferenceSettings = InferenceSettings()
    bounds: Bounds = Bounds()
