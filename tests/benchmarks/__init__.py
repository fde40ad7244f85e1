"""Measurements, written to .bench/; nothing here is a test."""
