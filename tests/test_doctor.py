"""Each check on machines of our own making, and one look at the real one."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from radiograd import assets, doctor
from radiograd.doctor import Check

REQUIRES = [
    "click>=8.1",
    'torch>=2.11; extra == "train"',
    "trl<1.17,>=1.16; extra == 'train'",
    'pyarrow>=15; extra == "parquet"',
    'radiograd[parquet,train]; extra == "all"',
    'ruff>=0.11; extra == "dev"',
]


def checks(**installed: str) -> dict[str, Check]:
    return {check.name: check for check in doctor.check_packages(REQUIRES, installed.get)}


def test_core_and_extras_are_checked_apart_and_only_the_core_must_be_there() -> None:
    found = checks(click="8.2")
    assert found == {
        "packages": Check("packages", True, "click 8.2"),
        "extra train": Check("extra train", None, "without torch, trl; run: pip install 'radiograd[train]'"),
        "extra parquet": Check("extra parquet", None, "without pyarrow; run: pip install 'radiograd[parquet]'"),
    }


def test_a_missing_core_package_is_broken() -> None:
    assert checks()["packages"] == Check("packages", False, "without click; run: pip install radiograd")


def test_a_complete_extra_lists_its_versions() -> None:
    found = checks(click="8.2", torch="2.13.0+cpu", trl="1.16.3")["extra train"]
    assert found == Check("extra train", True, "torch 2.13.0+cpu, trl 1.16.3")


def test_a_version_out_of_bounds_is_broken_even_in_an_extra() -> None:
    found = checks(click="8.2", torch="2.13.0", trl="1.17.0")["extra train"]
    assert found.ok is False
    assert found.detail == "trl 1.17.0 (needs <1.17,>=1.16); run: pip install -U 'radiograd[train]'"


@pytest.mark.parametrize(
    ("version", "bounds", "inside"),
    [
        ("2.13.0+cpu", ">=2.11", True),
        ("2.9.1", ">=2.11", False),  # 9 < 11: numbers, not letters
        ("1.17", "<1.17,>=1.16", False),
        ("1.17.0", "==1.17", True),  # missing parts count as 0
        ("8", ">=8.0.0", True),
        ("1.0", "!=1.0.0", False),
        ("3.0", "", True),
    ],
)
def test_bounds_compare_release_numbers(version: str, bounds: str, inside: bool) -> None:
    assert doctor.within(version, bounds) is inside


def test_an_old_python_is_broken() -> None:
    assert doctor.check_python((3, 10, 4)).ok is False
    assert doctor.check_python((3, 11, 0)).ok is True
    assert doctor.check_python((4, 0, 0)).ok is True


def test_a_missing_pip_is_optional_and_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    found = doctor.check_pip()
    assert found.ok is None
    assert "-m ensurepip" in found.detail


def test_without_torch_the_device_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert doctor.check_device().ok is None


def test_an_asset_is_absent_then_whole_then_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADIOGRAD_CACHE", str(tmp_path))
    content = b"abc"
    tiny = replace(
        assets.CATALOG["openi"],
        name="tiny",
        member="x/y.bin",
        member_sha256="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",  # of abc
    )
    monkeypatch.setitem(assets.CATALOG, "tiny", tiny)
    assert doctor.check_asset("tiny") == Check("asset tiny", None, "not fetched; run: radiograd fetch tiny")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "y.bin").write_bytes(content)
    (tmp_path / "tiny" / "DONE.json").write_text(
        f'{{"package": "{tiny.package}", "version": "{tiny.version}", "member_sha256": "{tiny.member_sha256}",'
        f' "files": {{"y.bin": {{"size": 3, "sha256": "{tiny.member_sha256}"}}}}}}'
    )
    assert doctor.check_asset("tiny").ok is True
    (tmp_path / "tiny" / "y.bin").write_bytes(b"abd")
    damaged = doctor.check_asset("tiny")
    assert damaged.ok is False
    assert damaged.detail.endswith("run: radiograd fetch tiny")


def test_a_cache_that_does_not_exist_yet_is_fine_and_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADIOGRAD_CACHE", str(tmp_path / "a" / "b"))
    assert doctor.check_cache() == Check("cache", True, str(tmp_path / "a" / "b"))
    assert doctor.check_disk().name == "disk"
    assert list(tmp_path.iterdir()) == []


def test_a_cache_below_a_file_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RADIOGRAD_CACHE", str(tmp_path / "file" / "cache"))
    found = doctor.check_cache()
    assert found.ok is False
    assert "set RADIOGRAD_CACHE" in found.detail


def test_a_containers_limit_counts_as_the_memory(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    physical = doctor.memory_bytes(tmp_path / "none")
    limit.write_text("max\n")
    assert doctor.memory_bytes(limit) == physical
    limit.write_text("1048576\n")
    assert doctor.memory_bytes(limit) == 1048576


def test_the_whole_examination_names_each_check_once_and_breaks_nothing_here() -> None:
    found = doctor.examine()
    names = [check.name for check in found]
    assert len(names) == len(set(names))
    assert {"python", "packages", "pip", "device", "cache", "disk", "memory", "cores"} <= set(names)
    assert all(check.detail and "\n" not in check.detail for check in found)
    assert next(check for check in found if check.name == "python").ok is True
