"""Tests of shared/, room by room."""
