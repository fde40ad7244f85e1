"""Every datatype through an unmodified `tritonclient`; runs in that client's own environment, prints one JSON object.

Usage: python tritonclient_types.py ADDRESS    (models `same-<datatype>`, `pair` with graphs `sums` and `picks`)
"""

import json
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

TYPES = [
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]


def make_array(datatype):
    if datatype == "BYTES":
        return np.array([["", "ünï\0cødé".encode()], [b"x" * 300, b"last"]], dtype=object)
    dtype = np.dtype(triton_to_np_dtype(datatype))
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    return np.array([[limits.min, limits.max], [0, 1]], dtype=dtype)


def make_input(name, array, datatype):
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def is_equal(datatype, sent, got):
    if datatype == "BYTES":
        return [x.encode() if isinstance(x, str) else x for x in sent.ravel()] == got.ravel().tolist()
    return got.dtype == sent.dtype and np.array_equal(got, sent)


def catch(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}
    return None


def main(address):
    client = triton.InferenceServerClient(address)
    same = {}
    for datatype in TYPES:
        sent = make_array(datatype)
        result = client.infer(f"same-{datatype}", [make_input("x", sent, datatype)], client_timeout=10)
        same[datatype] = is_equal(datatype, sent, result.as_numpy("y"))
    ones = np.ones((2, 3), np.float32)
    pair = [make_input("a", ones, "FP32"), make_input("b", ones, "FP32")]
    asked = client.infer(
        "test/pair.sums",
        pair,
        request_id="seven",
        outputs=[triton.InferRequestedOutput("difference")],
        priority=1,
        timeout=1_000_000,
        client_timeout=10,
    )
    line = make_input("x", np.ones((1, 3), np.float32), "FP32")
    print(
        json.dumps(
            {
                "same": same,
                "id": asked.get_response().id,
                "difference": asked.as_numpy("difference").tolist(),
                "sum": asked.as_numpy("sum"),
                "ready": {name: client.is_model_ready(name) for name in ("pair.sums", "pair", "nobody")},
                "server_ready": client.is_server_ready(),
                "wrong_name": catch(client.infer, "same-FP32", [make_input("z", ones, "FP32")]),
                "wrong_type": catch(client.infer, "same-INT8", [make_input("x", ones, "FP32")]),
                "unknown": catch(client.infer, "nobody", [line]),
                "classes": catch(
                    client.infer,
                    "same-FP32",
                    [line],
                    outputs=[triton.InferRequestedOutput("y", class_count=3)],
                ),
                "sequence": catch(client.infer, "same-FP32", [line], sequence_id=5, sequence_start=True),
                "config": client.get_model_config("same-BYTES", as_json=True)["config"],
                "statistics": client.get_inference_statistics("same-FP32", as_json=True)["model_stats"][0],
                "index": client.get_model_repository_index(as_json=True)["models"],
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
