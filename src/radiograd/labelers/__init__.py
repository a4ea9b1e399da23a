"""Labelers: texts in, one status per finding out. Rules, CheXbert, the embedded one, or a program of the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from radiograd.errors import ConfigError
from radiograd.labelers.builtin import LABELERS
from radiograd.naming import resolve
from radiograd.types import Labeler


def load_labeler(name: str, options: Mapping[str, Any] | None = None) -> Labeler:
    """The built-in labeler of that name, or the user's own ``package.module:attr``.

    A class is called with ``options``; anything else takes none. Raises ConfigError for an unknown name, an option that
    the labeler does not have or lacks, and what cannot be called; and what the labeler itself raises.
    """
    target = check_labeler(name, options)
    if isinstance(target, type):
        target = target(**(options or {}))
    if not callable(target):
        raise ConfigError(f"labeler {name!r} cannot be called; it must map texts to labels")
    labeler: Labeler = target
    return labeler


def check_labeler(name: str, options: Mapping[str, Any] | None = None) -> Any:
    """What the name stands for, with its options checked; raises as :func:`load_labeler` does, and loads nothing."""
    target = resolve("labeler", name, LABELERS)
    options = options or {}
    if isinstance(target, type):
        try:
            inspect.signature(target).bind(**options)
        except TypeError as error:
            raise ConfigError(f"labeler {name!r}: {error}; it takes {inspect.signature(target)}") from error
    elif options:
        raise ConfigError(f"labeler {name!r} is no class and takes no options; leave out {', '.join(sorted(options))}")
    return target
