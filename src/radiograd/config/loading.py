"""Files and ``dotted.key=value`` -> a configuration, or an error that says what to type next; its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from radiograd.config.alignment import ALIGNMENTS
from radiograd.config.run import RunConfig
from radiograd.config.section import Section
from radiograd.config.selection import SELECTIONS
from radiograd.errors import ConfigError, UsageError, did_you_mean


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in a YAML or JSON file with ``dotted.key=value`` overrides applied.

    ``path`` may also be the bare name of a shipped configuration (``quickstart``). Raises ConfigError naming the file,
    the key and the nearest known key.
    """
    path = shipped(str(path)) or Path(path)
    names = ", ".join(sorted(p.stem for p in SHIPPED_CONFIGS.glob("*.yaml")))
    values = read_values(path, f"no such configuration file or run folder. Shipped by name: {names}")
    for override in overrides:
        apply_override(values, override)
    return parse_config(values, f"{path} with overrides" if overrides else str(path))


def read_values(path: Path, missing: str) -> dict[str, Any]:
    """The keys and values of a YAML or JSON file. ConfigError naming file and line, and ``missing`` when there is no
    such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: {missing}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder, not a configuration file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{where} is not valid YAML: {problem}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(values).__name__}")
    return values


SHIPPED_CONFIGS = Path(__file__).parents[1] / "configs"


def shipped(name: str) -> Path | None:
    """The path of the shipped configuration called ``name`` (with or without ``configs/`` and ``.yaml``), or None."""
    if Path(name).is_file():
        return None
    candidate = SHIPPED_CONFIGS / (Path(name).name.removesuffix(".yaml") + ".yaml")
    known = Path(name).parent in (Path(), Path("configs"))
    return candidate if known and candidate.exists() else None


def parse_config(values: Mapping[str, Any], where: str) -> RunConfig:
    """``values`` as a RunConfig; ConfigError with every wrong key of ``where``, one line."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_explain(e) for e in error.errors())) from None


def digest(config: RunConfig) -> str:
    """Twelve hex digits that change when anything that can change a result changes (the name cannot)."""
    values = config.model_dump(mode="json", exclude={"name"})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def difference(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``key: old -> new`` for every leaf that differs between two dumped configurations."""
    lines: list[str] = []
    for key in sorted(a.keys() | b.keys()):
        old, new = a.get(key), b.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += difference(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: {json.dumps(old)} -> {json.dumps(new)}")
    return lines


def apply_override(values: dict[str, Any], override: str) -> None:
    """Put one ``dotted.key=value`` into nested ``values``; UsageError when it is not of that form.

    The value is YAML. What YAML 1.1 takes for text but a number is asked for (1e-4) becomes one in validation.
    """
    key, equals, raw = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UsageError(f"override {override!r} is not of the form dotted.key=value, e.g. sft.lr=0.0003")
    try:
        value = yaml.safe_load(raw) if raw else None
    except (yaml.YAMLError, ValueError):
        raise UsageError(f"override {key!r}: its value is not valid YAML; put it in quotes") from None
    *parents, leaf = key.split(".")
    for parent in parents:
        values = keys_of(values, parent)
        if not isinstance(values, dict):
            raise UsageError(f"override {key!r}: {parent!r} holds a value, not keys")
    values[leaf] = value


def keys_of(values: dict[str, Any], part: str) -> Any:
    """What ``values`` holds under ``part``, made when it is not there; ``select: random`` becomes ``{by: random}``."""
    if part == "select" and isinstance(values.get(part), str):
        values[part] = {"by": values[part]}
    return values.setdefault(part, {})


_UNIONS: Mapping[str, Mapping[str, type[Section]]] = {"align": ALIGNMENTS, "select": SELECTIONS}
_TAGS = {"align": ("type", "alignment"), "select": ("by", "selection")}


def _explain(error: Any) -> str:
    location = [str(part) for part in error["loc"]] or [""]
    known = _UNIONS.get(location[0], {})
    if error["type"] == "union_tag_invalid":
        tag, (discriminator, what) = error["ctx"]["tag"], _TAGS[location[0]]
        return f"{'.'.join(location)}.{discriminator}: no {what} is called {tag!r}.{did_you_mean(tag, known)}"
    member: Any = None
    if known and len(location) > 1:
        member = known[location.pop(1)]  # behind the union's key, pydantic names its member: that is no key
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        others = [n for n, other in known.items() if member not in (None, other) and location[1] in other.model_fields]
        if others and len(location) == 2:
            return f"unknown key {key!r}: it belongs to {location[0]}.{_TAGS[location[0]][0]}={others[0]}"
        return f"unknown key {key!r}.{did_you_mean(location[-1], _known_keys(location[:-1], member))}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_type" and isinstance(error["input"], (int, float, date)):
        message += "; put it in quotes"
    return f"{key}: {message}" if key else message


def _known_keys(location: Iterable[str], member: Any) -> list[str]:
    model: Any = RunConfig
    for part in location:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if field is None:
            return []
        model = member if model is RunConfig and part in _UNIONS else field.annotation
    return list(getattr(model, "model_fields", {}))
