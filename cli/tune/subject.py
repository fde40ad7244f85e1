"""What is tuned: a model that was pulled, and what the environment says of how its service runs models."""

from __future__ import annotations

import os
from pathlib import Path

from cli.failure import CommandError
from shared.inference.repository.versions import order, scan
from shared.inference.settings import InferenceSettings
from shared.settings import Settings, load


class _ServiceSettings(Settings):
    """As far as a service's settings concern its models."""

    inference: InferenceSettings = InferenceSettings()


def find_artifact(name: str, state: Path) -> tuple[str, Path]:
    """The service and the newest version's folder of a pulled model.

    Raises:
        CommandError: there is none of this name, or several services have one.
    """
    service, _, model = name.rpartition("/")
    models = state / "models"
    services = [service] if service else sorted(path.name for path in models.glob("*") if path.is_dir())
    found = {each: versions for each in services if (versions := scan(models / each).get(model))}
    if not found:
        known = sorted(
            f"{each.name}/{one}" for each in models.glob("*") if each.is_dir() for one in scan(each)
        )
        raise CommandError(
            f"no model '{name}' is pulled in {models}; there are: {', '.join(known) or 'none'} "
            f"(sensorium models pull {name})"
        )
    if len(found) > 1:
        raise CommandError(
            f"'{name}' may be {' or '.join(f'{each}/{model}' for each in found)}; say which", exit_code=2
        )
    ((where, versions),) = found.items()
    return where, versions[max(versions, key=order)].path


def read_settings(service: str) -> InferenceSettings:
    """What the environment says of the service's models: the same variables that its replicas read.

    Raises:
        SettingsError: a variable is wrong.
    """
    prefix = f"SENSORIUM_{service.upper().replace('-', '_')}_INFERENCE__"
    environ = {key: value for key, value in os.environ.items() if key.startswith(prefix)}
    return load(_ServiceSettings, service, environ).inference
