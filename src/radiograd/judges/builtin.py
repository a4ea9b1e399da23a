"""Name -> judge. One line each; resolved only when asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from pydantic import ValidationError

from radiograd.config import Section
from radiograd.errors import ConfigError, did_you_mean
from radiograd.judges.protocol import Judge
from radiograd.naming import resolve

JUDGES = {
    "rules": "radiograd.judges.rules:Rules",
    "chat": "radiograd.judges.chat:Chat",
    "local": "radiograd.judges.local:Local",
}
OPTIONS = {
    "chat": "radiograd.judges.chat:ChatOptions",
    "local": "radiograd.judges.local:LocalOptions",
}
"""What a built-in judge can be told; ``rules`` nothing."""


def load_judge(name: str, options: Mapping[str, Any] | None = None, *, credentialed: bool = False) -> Judge:
    """The built-in judge of that name, or the user's own ``package.module:attr``.

    The user's own is called with the options as keywords, and with ``credentialed`` when it takes one.
    ``credentialed``: the reports came under a data use agreement and may not go to a third party. Raises ConfigError
    for an unknown name or option, for one that is missing or wrong, and for an endpoint that may not be sent such
    reports; and whatever the judge itself raises.
    """
    return _maker(name, options, credentialed)()


def prepare_judge(
    name: str, options: Mapping[str, Any] | None = None, *, credentialed: bool = False
) -> Callable[[], Judge]:
    """The same judge, checked now and made when first asked for; raises now what :func:`load_judge` would.

    Of one that loads a model (``local``) or is the user's own, name and options are checked, not more.
    """
    make: Callable[[], Judge] = cache(_maker(name, options, credentialed))
    if name in ("rules", "chat"):
        make()
    return make


def _maker(name: str, options: Mapping[str, Any] | None, credentialed: bool) -> Callable[[], Judge]:
    target = resolve("judge", name, JUDGES)
    given = {str(key): value for key, value in (options or {}).items()}
    if name in OPTIONS:
        settings = _validated(name, resolve("judge options", OPTIONS[name], {}), given)
        return partial(target, settings, credentialed=credentialed)
    if not callable(target):
        raise ConfigError(f"judge {name!r} is neither a class nor a function that makes a judge")
    known = inspect.signature(target).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        for key in given:
            if key not in known:
                takes = did_you_mean(key, known) if known else " It takes none."
                raise ConfigError(f"judge {name!r} has no option {key!r}.{takes}")
    if "credentialed" in known:
        given["credentialed"] = credentialed
    try:
        inspect.signature(target).bind(**given)
    except TypeError as error:
        raise ConfigError(f"judge {name!r}: {error}; it takes {inspect.signature(target)}") from error
    return partial(_own, name, target, given)


def _own(name: str, target: Callable[..., Judge], given: Mapping[str, Any]) -> Judge:
    own = target(**given)
    missing = [part for part in ("signature", "prefer", "consistent", "critical") if not hasattr(own, part)]
    if missing:
        raise ConfigError(f"judge {name!r} is no judge: it lacks {', '.join(missing)} (radiograd.judges.protocol)")
    return own


def _validated(name: str, model: type[Section], given: Mapping[str, Any]) -> Section:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise ConfigError(
            f"judge {name!r}: " + "; ".join(_explain(e, sorted(model.model_fields)) for e in error.errors())
        ) from None


def _explain(error: Any, known: list[str]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"no option {key!r}.{did_you_mean(key, known)}"
    if error["type"] == "missing":
        return f"option {key!r} is missing; give {key}=..."
    return f"{key}: {error['msg']}"
