"""The services of the mesh; each folder is one."""

import shared  # noqa: F401  # before anything imports ONNX Runtime: see there
