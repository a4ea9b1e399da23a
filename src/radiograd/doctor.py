"""What this machine has and lacks for radiograd, as plain data. Printing it is the command line's work."""

from __future__ import annotations

import importlib.util
import operator
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from radiograd import assets
from radiograd.errors import AssetError, RadiogradError

PYTHON = (3, 11)
"""The oldest Python that works, as in the package metadata."""
DISK = 2 << 30
"""Free bytes below which fetching and training are likely to fail: the model, its wheel, a run with checkpoints."""
MEMORY = 6 << 30
"""Bytes the quickstart may take."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``ok``: True fine, False broken, None optional and absent. ``detail`` says what, or what to type."""

    name: str
    ok: bool | None
    detail: str


def examine() -> list[Check]:
    """Every check, in the order a reader wants them. No network; a few seconds, most of it importing torch."""
    return [
        check_python(sys.version_info[:3]),
        *_own_packages(),
        check_pip(),
        check_device(),
        check_cache(),
        *(check_asset(name) for name in assets.CATALOG),
        check_disk(),
        check_memory(),
        check_cores(),
    ]


# ---- Python and packages ---------------------------------------------------------------------------------------------


def check_python(version: Sequence[int]) -> Check:
    """Whether the interpreter is new enough. ``version``: major, minor, micro."""
    said = ".".join(map(str, version))
    if tuple(version[:2]) < PYTHON:
        return Check("python", False, f"{said} is too old; radiograd needs {PYTHON[0]}.{PYTHON[1]} or newer")
    return Check("python", True, f"{said} on {platform.system()} {platform.machine()}")


def installed_version(package: str) -> str | None:
    """The version of an installed distribution, or None. Reads metadata only."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _own_packages() -> list[Check]:
    try:
        requirements = metadata.requires("radiograd") or []
    except metadata.PackageNotFoundError:  # imported from a folder that was never installed
        return [Check("packages", False, "radiograd itself is not installed here; run: pip install radiograd")]
    return check_packages(requirements, installed_version)


def check_packages(requirements: Sequence[str], version_of: Callable[[str], str | None]) -> list[Check]:
    """One check for the core and one for each extra, from the package's own metadata.

    ``requirements`` are ``Requires-Dist`` lines such as ``trl<1.17,>=1.16; extra == "train"``. A missing core package
    or one outside its bounds is broken; a missing extra is optional and absent. The extra ``dev`` and extras made of
    extras are left out.
    """
    groups: dict[str, list[tuple[str, str]]] = {"": []}
    for requirement in requirements:
        words, _, marker = requirement.partition(";")
        name = re.match(r"[\w.-]+", words.strip())
        extra = re.search(r"extra\s*==\s*[\"']([\w-]+)[\"']", marker)
        group = extra[1] if extra else ""
        if name and name[0] != "radiograd" and group != "dev":
            groups.setdefault(group, []).append((name[0], words.strip()[name.end() :].strip(" ()")))
    return [_check_group(group, sorted(wanted), version_of) for group, wanted in groups.items()]


def _check_group(group: str, wanted: Sequence[tuple[str, str]], version_of: Callable[[str], str | None]) -> Check:
    found = {name: version_of(name) for name, _ in wanted}
    missing = [name for name, version in found.items() if version is None]
    wrong = [
        f"{name} {version} (needs {bounds})"
        for name, bounds in wanted
        if (version := found[name]) is not None and not within(version, bounds)
    ]
    what = f"'radiograd[{group}]'" if group else "radiograd"
    title = f"extra {group}" if group else "packages"
    if wrong:
        return Check(title, False, f"{', '.join(wrong)}; run: pip install -U {what}")
    if missing:
        return Check(title, None if group else False, f"without {', '.join(missing)}; run: pip install {what}")
    return Check(title, True, ", ".join(f"{name} {version}" for name, version in found.items()))


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def within(version: str, bounds: str) -> bool:
    """Whether a version lies within bounds such as ``>=1.16,<1.17``, by its release numbers alone (no pre-releases)."""
    for operation, limit in re.findall(r"(>=|<=|==|!=|>|<)\s*([\d.]+)", bounds):
        a, b = _release(version), _release(limit)
        width = max(len(a), len(b))
        if not _COMPARE[operation](a + (0,) * (width - len(a)), b + (0,) * (width - len(b))):
            return False
    return True


def _release(version: str) -> tuple[int, ...]:
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()


def check_pip() -> Check:
    """Whether ``radiograd fetch`` can download: it does so through pip."""
    if importlib.util.find_spec("pip") is None:
        return Check("pip", None, f"missing, so nothing can be fetched; run: {sys.executable} -m ensurepip")
    return Check("pip", True, installed_version("pip") or "present")


def check_device() -> Check:
    """Which device and precision a run would use with ``model.device: auto`` and ``model.dtype: auto``."""
    if importlib.util.find_spec("torch") is None:
        return Check("device", None, "unknown without torch; run: pip install 'radiograd[train]'")
    try:
        import torch
    except (ImportError, OSError) as error:  # a torch whose libraries do not load
        return Check(
            "device", False, f"torch cannot be imported: {(str(error).splitlines() or ['no reason given'])[0]}"
        )
    from radiograd.config import ModelConfig
    from radiograd.models import device_of, dtype_of

    device, dtype = device_of(ModelConfig()), str(dtype_of(ModelConfig())).removeprefix("torch.")
    if device == "cpu":
        slow = "" if dtype == "bfloat16" else " (no native bfloat16: about four times slower)"
        return Check("device", True, f"cpu, {dtype}{slow}, torch {torch.__version__}")
    facts = torch.cuda.get_device_properties(0)
    count = torch.cuda.device_count()
    return Check(
        "device", True, f"{count} x {facts.name} with {_gib(facts.total_memory)}, {dtype}, torch {torch.__version__}"
    )


# ---- files and machine -----------------------------------------------------------------------------------------------


def check_asset(name: str) -> Check:
    """Whether one artefact is in the cache and whole (every byte is read)."""
    title = f"asset {name}"
    try:
        if not assets.is_cached(name):
            return Check(title, None, f"not fetched; run: radiograd fetch {name}")
        return Check(title, True, f"{assets.verify(name)} ({assets.CATALOG[name].licence})")
    except (RadiogradError, OSError) as error:
        return Check(title, False, str(error))


def check_cache() -> Check:
    """Whether the cache folder, or the nearest existing folder above it, can be written to."""
    try:
        folder = assets.cache_folder()
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return Check("cache", True, str(folder))
    except AssetError as error:
        return Check("cache", False, str(error))
    except OSError as error:
        return Check("cache", False, f"{folder} cannot be written ({error.strerror}); set RADIOGRAD_CACHE to a folder")


def check_disk() -> Check:
    """Free space where the cache is and where the command was started."""
    try:
        places = {_existing(assets.cache_folder()), Path.cwd()}
        free = {place: shutil.disk_usage(place).free for place in places}
    except (AssetError, OSError) as error:
        return Check("disk", False, str(error))
    place, least = min(free.items(), key=lambda item: (item[1], str(item[0])))
    if least < DISK:
        return Check("disk", False, f"{_gib(least)} free at {place}; fetching and training need {_gib(DISK)}")
    return Check("disk", True, f"{_gib(least)} free at {place}")


def check_memory() -> Check:
    """Memory of the machine or, if smaller, of the container."""
    total = memory_bytes()
    if total is None:
        return Check("memory", None, f"unknown on this system; the quickstart takes {_gib(MEMORY)}")
    if total < MEMORY:
        return Check("memory", None, f"{_gib(total)}: enough to score, too little for the quickstart ({_gib(MEMORY)})")
    return Check("memory", True, _gib(total))


def memory_bytes(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int | None:
    """Physical memory, or the control group's limit where that is lower; None where the system does not say."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        said = limit.read_text(encoding="ascii").strip()
    except OSError:  # no control groups here
        return total
    return min(total, int(said)) if said.isdigit() else total


def check_cores() -> Check:
    """Processor cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    count = len(allowed(0)) if allowed else os.cpu_count() or 1
    return Check("cores", True, str(count))


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
