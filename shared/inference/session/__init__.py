"""One graph in ONNX Runtime: how it is opened, on what it runs, what its failures say."""
