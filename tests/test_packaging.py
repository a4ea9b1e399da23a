"""pyproject.toml and requirements.lock: the core stays small, and the lock covers what the make targets install."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import radiograd
from radiograd.assets import CATALOG

REPO = Path(__file__).parent.parent
PACKAGE = Path(radiograd.__file__).parent
PROJECT: dict[str, Any] = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LOCK = [
    line
    for line in (REPO / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line.strip() and not line.startswith("#")
]
NOT_LOCKED = {"vllm"}  # brings a torch of its own choice
NOT_IN_THE_CORE = {
    "accelerate",
    "datasets",
    "httpx2",
    "pandas",
    "peft",
    "pillow",
    "pyarrow",
    "pydicom",
    "safetensors",
    "scikit-learn",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
}


def name(requirement: str) -> str:
    return str(canonicalize_name(Requirement(requirement).name))


def closure(requirements: list[str]) -> set[str]:
    """Names of everything ``requirements`` bring on this machine, from the metadata of what is installed."""
    seen: set[tuple[str, str]] = set()
    todo = [(Requirement(line), "") for line in requirements]
    while todo:
        requirement, asked_by = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": asked_by}):
            continue
        for extra in ("", *sorted(requirement.extras)):
            key = (str(canonicalize_name(requirement.name)), extra)
            if key not in seen:
                seen.add(key)
                todo += [(Requirement(line), extra) for line in metadata.requires(requirement.name) or []]
    return {package for package, _ in seen}


def pins() -> dict[str, str]:
    return {str(canonicalize_name(line.split("==")[0])): line.split("==")[1] for line in LOCK}


# ---- the core --------------------------------------------------------------------------------------------------------


def test_the_core_brings_no_training_or_table_library_with_it() -> None:
    brought = closure(PROJECT["dependencies"])
    assert {name(line) for line in PROJECT["dependencies"]} <= brought
    assert not brought & NOT_IN_THE_CORE


def test_the_version_is_told_once_and_the_same() -> None:
    assert PROJECT["version"] == radiograd.__version__


def test_the_extra_all_holds_every_extra_for_users() -> None:
    (everything,) = EXTRAS["all"]
    assert Requirement(everything).extras == EXTRAS.keys() - {"all", "dev"} - NOT_LOCKED


def test_the_oldest_python_is_the_one_the_doctor_knows() -> None:
    from radiograd.doctor import PYTHON

    assert PROJECT["requires-python"] == f">={PYTHON[0]}.{PYTHON[1]}"


def test_every_file_beside_the_code_is_named_as_package_data() -> None:
    settings = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = settings["package-data"]["radiograd"]
    files = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    ]
    assert {"py.typed", "configs/quickstart.yaml"} <= set(files)
    assert [file for file in files if not any(fnmatch(file, pattern) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not any(fnmatch(file, pattern) for file in files)] == []


# ---- the lock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", LOCK)
def test_every_line_of_the_lock_is_an_exact_public_version(line: str) -> None:
    assert re.fullmatch(
        r"[A-Za-z0-9._-]+==[0-9][0-9a-z.!]*", line
    )  # no local part such as +cpu: builds differ by index
    assert Version(line.split("==")[1]).local is None


def test_the_lock_names_every_package_once() -> None:
    assert len(pins()) == len(LOCK)


def test_the_lock_covers_everything_that_core_and_extras_bring() -> None:
    extras = [line for extra, lines in EXTRAS.items() if extra not in {"all", *NOT_LOCKED} for line in lines]
    brought = closure([*PROJECT["dependencies"], *extras])
    assert sorted(brought - pins().keys()) == []


def test_every_pin_lies_within_the_bounds_of_the_project() -> None:
    for line in [*PROJECT["dependencies"], *EXTRAS["train"], *EXTRAS["judge"], *EXTRAS["dev"]]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins()[name(line)]), line


# ---- what messages say to install ------------------------------------------------------------------------------------


def missing_extra_calls() -> Iterator[tuple[Path, ast.Call]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "MissingExtra":
                yield path, node


def test_every_extra_that_a_message_names_exists() -> None:
    calls = list(missing_extra_calls())
    assert len(calls) >= 3
    for path, call in calls:
        extra = call.args[1]
        if isinstance(extra, ast.Constant):
            assert extra.value in EXTRAS, path
        else:  # an artefact names the extra its conversion needs
            assert path.name == "assets.py"
            assert ast.unparse(extra) == "asset.extra"
    assert {asset.extra for asset in CATALOG.values() if asset.needs} <= EXTRAS.keys()


def test_what_an_artefact_needs_is_in_the_extra_it_names() -> None:
    for asset in CATALOG.values():
        assert set(asset.needs) <= {name(line) for line in EXTRAS.get(asset.extra, [])}
