"""Client of a Sensorium mesh: `from sensorium import Client; Client().classify_image("cat.jpg")`.

Names are imported when they are first asked for, so that the stubs beside them cost nobody more than they use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sensorium import errors as errors
    from sensorium.aio import AsyncClient as AsyncClient
    from sensorium.client import Client as Client
    from sensorium.errors import SensoriumError as SensoriumError
    from sensorium.inputs import Pcm as Pcm
    from sensorium.tensor import Tensor as Tensor

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "Pcm", "SensoriumError", "Tensor", "errors"]

_HOMES = {
    "AsyncClient": "sensorium.aio",
    "Client": "sensorium.client",
    "Pcm": "sensorium.inputs",
    "SensoriumError": "sensorium.errors",
    "Tensor": "sensorium.tensor",
}


def __getattr__(name: str) -> object:
    if name == "errors":
        return import_module("sensorium.errors")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sensorium' has no attribute {name!r}")
