from __future__ import annotations

from pathlib import Path

import pytest

from radiograd.errors import ConfigError
from radiograd.naming import resolve

BUILTIN = {"root": "math:sqrt", "floor": "math:floor"}


def test_a_builtin_name_gives_what_it_stands_for() -> None:
    assert resolve("function", "root", BUILTIN)(9.0) == 3.0


def test_a_name_of_ones_own_is_imported() -> None:
    assert resolve("function", "json:dumps", BUILTIN)([1]) == "[1]"


def test_an_unknown_name_is_told_with_its_kind_and_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"^no function is called 'rot'\. Did you mean 'root'\?$"):
        resolve("function", "rot", BUILTIN)


def test_a_name_far_from_all_is_told_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"Known: floor, root\.$"):
        resolve("function", "xyzzy", BUILTIN)


def test_a_module_that_is_not_there_is_told_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"no module named 'not_there' can be imported; install it, or .* PYTHONPATH"):
        resolve("reader", "not_there.deep:read", BUILTIN)


def test_a_submodule_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match=r"no module named 'json\.nope'"):
        resolve("reader", "json.nope:read", BUILTIN)


def test_an_attribute_that_is_not_there_is_told_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"module 'json' has no 'dump_s'\. Did you mean 'dumps'\?"):
        resolve("reader", "json:dump_s", BUILTIN)


@pytest.mark.parametrize("name", [":read", "module:", ".module:read", "a..b:read", "my module:read", "a:b:c", ":"])
def test_a_name_of_another_form_is_told(name: str) -> None:
    with pytest.raises(ConfigError, match=r"is not of the form package\.module:name$"):
        resolve("reader", name, BUILTIN)


def test_a_module_whose_own_import_fails_keeps_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # "own" is not a part of the module's name: the fault lies inside the module, not in the name given
    (tmp_path / "own_reader.py").write_text("import own\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="No module named 'own'"):
        resolve("reader", "own_reader:read", BUILTIN)


def test_an_attribute_error_inside_the_module_is_not_taken_for_a_wrong_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_reader.py").write_text("import math\nmath.nothing\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(AttributeError, match="nothing"):
        resolve("reader", "broken_reader:read", BUILTIN)
