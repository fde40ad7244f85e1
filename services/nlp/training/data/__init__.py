"""Readers of the language service's training data, one format each."""
