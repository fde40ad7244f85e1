"""Tests; the tree mirrors the code."""

import shared  # noqa: F401  # before anything imports ONNX Runtime: see there
