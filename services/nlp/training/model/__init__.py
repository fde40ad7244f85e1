"""Networks of the language service's models, in PyTorch."""
