"""The speech service: writes down what is said, finds speech, and describes voices."""
