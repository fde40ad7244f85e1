"""Environment → frozen settings, with every bad variable reported at once.

`SENSORIUM_<PART>_<FIELD>` sets a field of a part's settings, `SENSORIUM_<PART>_<GROUP>__<FIELD>` one of a
nested group. An empty variable counts as unset. Lists are comma-separated or JSON, mappings are JSON. What
the parts' settings are is theirs; command lines and files are not read here.
"""

from __future__ import annotations

import difflib
import json
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from shared.errors import StartupError

# Longest value quoted back in a message, in characters.
_MAX_QUOTED = 80
# Variables with such a name are never quoted back.
_SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "KEY")


class SettingsError(StartupError):
    """Variables that are wrong; the text has one line for each: name, what was expected, what was got."""


class Settings(BaseModel):
    """What every part's settings derive from: frozen, no unknown fields, defaults checked like values."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


T = TypeVar("T", bound=BaseModel)


def load(settings_class: type[T], part: str, environ: Mapping[str, str] | None = None) -> T:
    """Reads the settings of `part` (e.g. `vision`) from `environ` (default: the process's own).

    Raises SettingsError naming every variable that is unknown, missing or has a bad value.
    """
    prefix = f"SENSORIUM_{part.upper().replace('-', '_')}_"
    variables = {
        name: value
        for name, value in sorted((os.environ if environ is None else environ).items())
        if value != ""
    }
    values: dict[str, object] = {}
    problems: list[str] = []
    for name, value in variables.items():
        if not name.startswith(prefix):
            continue
        try:
            _put(values, settings_class, name.removeprefix(prefix).lower().split("__"), value)
        except _UnknownVariable as error:
            problems.append(
                f"{name}: no such setting{error}; {_suggest(name, _list_variables(settings_class, prefix))}"
            )
        except ValueError as error:
            problems.append(f"{name}: expected {error}, got {_quote(name, value)}")
    try:
        loaded = settings_class.model_validate(values)
    except ValidationError as error:
        for found in error.errors():
            variable = prefix + "__".join(str(step) for step in found["loc"] if isinstance(step, str)).upper()
            if found["type"] == "missing":
                problems.append(f"{variable}: expected a value, got none; set it")
            elif found["type"] == "value_error":
                problems.append(
                    f"{variable}: {found['ctx']['error']}, got {_quote(variable, found['input'])}"
                )
            else:
                expected = found["msg"][:1].lower() + found["msg"][1:]
                expected = expected.removeprefix("input should be ").removeprefix("a valid ")
                problems.append(f"{variable}: expected {expected}, got {_quote(variable, found['input'])}")
    if problems:
        raise SettingsError("; ".join(problems) if len(problems) == 1 else "\n".join(problems))
    return loaded


def state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Where a machine keeps what it fetched and learned: SENSORIUM_STATE_DIR, else the user's XDG state
    folder.
    """
    environ = os.environ if environ is None else environ
    if chosen := environ.get("SENSORIUM_STATE_DIR"):
        return Path(chosen).expanduser().absolute()
    if base := environ.get("XDG_STATE_HOME"):
        return Path(base).expanduser().absolute() / "sensorium"
    return Path.home() / ".local" / "state" / "sensorium"


class _UnknownVariable(Exception):
    pass


def _put(values: dict[str, object], model: type[BaseModel], path: list[str], value: str) -> None:
    name, *rest = path
    found = model.model_fields.get(name)
    if found is None:
        raise _UnknownVariable("")
    group = _get_group(found)
    if group is None:
        if rest:
            raise _UnknownVariable(f", {name} has no fields of its own")
        values[name] = _parse(found, value)
    elif not rest:
        raise ValueError("one variable for each field of this group, joined by `__`")
    else:
        inner = values.setdefault(name, {})
        assert isinstance(inner, dict)
        _put(inner, group, rest, value)


def _parse(found: FieldInfo, value: str) -> object:
    kinds = {typing.get_origin(option) or option for option in _list_options(found.annotation)}
    if kinds & {dict, Mapping}:
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"a JSON object ({error})") from error
    if kinds & {list, tuple, set, frozenset}:
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except json.JSONDecodeError as error:
                raise ValueError(f"a JSON list ({error})") from error
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def _get_group(found: FieldInfo) -> type[BaseModel] | None:
    for option in _list_options(found.annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _list_options(annotation: object) -> tuple[object, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _list_variables(model: type[BaseModel], prefix: str) -> list[str]:
    names: list[str] = []
    for name, found in model.model_fields.items():
        group = _get_group(found)
        names += (
            [prefix + name.upper()] if group is None else _list_variables(group, f"{prefix}{name.upper()}__")
        )
    return names


def _suggest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}" if near else f"those that exist: {', '.join(known)}"


def _quote(variable: str, value: object) -> str:
    if any(word in variable.upper() for word in _SECRET_WORDS):
        return "a value that is not shown"
    text = repr(value)
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…"
