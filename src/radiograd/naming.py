"""A name in a config -> the object it means: a built-in, or ``package.module:attr`` of the user's own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from radiograd.errors import ConfigError, did_you_mean


def resolve(kind: str, name: str, builtin: Mapping[str, str]) -> Any:
    """The object called ``name``.

    ``builtin`` maps names to ``package.module:attr`` and is imported only here. Raises ConfigError that names the
    kind, the name and the nearest known one.
    """
    target = builtin.get(name, name)
    module_name, colon, attribute = target.partition(":")
    if not colon:
        raise ConfigError(f"no {kind} is called {name!r}.{did_you_mean(name, builtin)}")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise ConfigError(f"{kind} {name!r} is not of the form package.module:name")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"{kind} {name!r}: no module named {error.name!r} can be imported; "
            "install it, or name its folder in PYTHONPATH"
        ) from error
    if not hasattr(module, attribute):
        raise ConfigError(
            f"{kind} {name!r}: module {module_name!r} has no {attribute!r}.{did_you_mean(attribute, vars(module))}"
        )
    return getattr(module, attribute)
