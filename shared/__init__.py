"""What the gateway and the services share: errors, settings, and the rooms `rpc`, `telemetry` and `inference`."""

import os

# From 1.29 on ONNX Runtime reports models and runs to its maker unless this is set before it is imported; whatever is told
# it afterwards is too late for what its import sends.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
