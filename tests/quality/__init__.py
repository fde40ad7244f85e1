"""What trained models are worth, measured (`make quality`); tests of these modules lie in tests/training/quality."""
