"""Settings of the vision service, read from SENSORIUM_VISION_*, e.g. SENSORIUM_VISION_RPC__ADDRESS."""

from services.vision.limits import Bounds
from shared.inference.settings import InferenceSettings
from shared.rpc.settings import RpcSettings
from shared.settings import Settings


class VisionSettings(Settings):
    """Where calls are taken, how models are run, and what the rpcs accept."""

    rpc: RpcSettings = RpcSettings()
    inference: InferenceSettings = InferenceSettings()
    bounds: Bounds = Bounds()
