"""Networks for pictures, in PyTorch; one module per family."""
