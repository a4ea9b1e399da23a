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
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ConfigError(f"{kind} {name!r}: no module named {error.name!r} can be imported from here") from error
    except AttributeError as error:
        raise ConfigError(f"{kind} {name!r}: module {module_name!r} has no {attribute!r}") from error
