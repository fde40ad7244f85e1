"""Where things are: the checkout this command runs from and the folders inside the state folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def models_dir(state: Path, service: str) -> Path:
    """Where the artifacts of `service` are."""
    return state / "models" / service


def cache_dir(state: Path) -> Path:
    """Where fetched archives are kept."""
    return state / "cache"


def datasets_dir(state: Path) -> Path:
    """Where data sets to train on are unpacked."""
    return state / "datasets"
