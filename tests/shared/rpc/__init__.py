"""Tests of shared/rpc/, on both fronts through real channels."""
