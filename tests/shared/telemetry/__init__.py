"""Tests of shared/telemetry/."""
