"""One round of `tritonclient` against a mesh; runs in the environment of that client and prints one JSON object.

Usage: python tritonclient_round.py MODEL    (address and token from SENSORIUM_ADDRESS and SENSORIUM_TOKEN)
"""

import json
import os
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

SENT = 3
# Axes of any length: the batch, a number of tokens or samples that every model takes.
ANY_LENGTH = {0: 1, 1: 16384}
TOKENS = 16


def tensor(meta, rng):
    """A valid random input: tokens for integers, a mask of ones, quiet noise for floats."""
    dtype = triton_to_np_dtype(meta["datatype"])
    integer = np.issubdtype(dtype, np.integer)
    shape = [
        int(n) if int(n) >= 0 else (1 if axis == 0 else TOKENS if integer else ANY_LENGTH[axis])
        for axis, n in enumerate(meta["shape"])
    ]
    if "mask" in meta["name"]:
        return np.ones(shape, dtype)
    if integer:
        return rng.integers(1000, 2000, shape).astype(dtype)
    return (0.1 * rng.standard_normal(shape)).astype(dtype)


def executions(client, model, headers):
    stats = client.get_inference_statistics(model, headers=headers, as_json=True)["model_stats"]
    return int(stats[0].get("inference_count", 0))


def main(model):
    headers = {"authorization": f"Bearer {os.environ['SENSORIUM_TOKEN']}"}
    client = triton.InferenceServerClient(os.environ["SENSORIUM_ADDRESS"])
    metadata = client.get_model_metadata(model, headers=headers, as_json=True)
    rng = np.random.default_rng(7)
    inputs = []
    for meta in metadata["inputs"]:
        value = tensor(meta, rng)
        item = triton.InferInput(meta["name"], list(value.shape), meta["datatype"])
        item.set_data_from_numpy(value)
        inputs.append(item)
    before = executions(client, model, headers)
    for n in range(SENT):
        result = client.infer(model, inputs, request_id=f"round-{n}", headers=headers)
        assert result.get_response().id == f"round-{n}"
    outputs = {
        output["name"]: {
            "shape": list(result.as_numpy(output["name"]).shape),
            "finite": bool(np.isfinite(result.as_numpy(output["name"])).all()),
        }
        for output in metadata["outputs"]
    }
    index = client.get_model_repository_index(headers=headers, as_json=True)["models"]
    bare = model.rpartition("/")[2]
    print(
        json.dumps(
            {
                "live": client.is_server_live(headers=headers),
                "ready": client.is_server_ready(headers=headers),
                "model_ready": client.is_model_ready(model, headers=headers),
                "server": client.get_server_metadata(headers=headers, as_json=True),
                "metadata": metadata,
                "config": client.get_model_config(model, headers=headers, as_json=True)["config"],
                "outputs": outputs,
                "sent": SENT,
                "counted": executions(client, model, headers) - before,
                "index": next(entry for entry in index if entry["name"].endswith(f"/{bare}")),
            }
        )
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except InferenceServerException as error:
        print(json.dumps({"status": error.status(), "message": error.message()}))
        sys.exit(3)
