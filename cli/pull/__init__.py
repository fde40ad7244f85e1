"""Public weights as dependencies: read the catalogue, fetch archives, check them, build artifacts."""
