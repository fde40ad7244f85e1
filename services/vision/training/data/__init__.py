"""Readers of pictures with labels, one module per format; what they raise for bad data is a DataError."""
