import sys

import pytest
from studies_fixture import study

from radiograd.config import DataConfig
from radiograd.data import DUPLICATE_ID, fingerprint, load, source_of
from radiograd.errors import ConfigError, DataError
from radiograd.types import Problem

OWN_READER = """
from radiograd.types import Problem, Sections, Study

def read(path, columns):
    for line in path.read_text().split():
        yield Study(line, line, "own", Sections(findings="x", impression="y"))
    yield Problem("row 9", "is odd")

def nothing(path, columns):
    yield Problem("row 1", "is odd")

def wrong(path, columns):
    yield {"study_id": "a"}

number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "my_reader.py").write_text(OWN_READER)
    (tmp_path / "ids.txt").write_text("a b a")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda name: DataConfig(source=f"my_reader:{name}", path=str(tmp_path / "ids.txt"))
    sys.modules.pop("my_reader", None)


def test_a_reader_of_ones_own_is_used_by_name_and_its_ids_are_made_unique(own):
    loaded = load(own("read"))
    assert [s.study_id for s in loaded.studies] == ["a", "b"]
    assert loaded.problems == [Problem("a", DUPLICATE_ID), Problem("row 9", "is odd")]


def test_a_reader_that_gives_no_study_is_an_error_that_shows_the_first_reason(own):
    with pytest.raises(DataError, match=r"ids\.txt: no study could be read, 1 rows.*row 1: is odd"):
        load(own("nothing"))


def test_a_reader_that_gives_something_else_is_named(own):
    with pytest.raises(DataError, match="gave a dict"):
        load(own("wrong"))


def test_a_reader_that_cannot_be_called_is_refused(own):
    with pytest.raises(ConfigError, match="not a function"):
        load(own("number"))


def test_an_unknown_reader_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="Did you mean 'parquet'"):
        load(DataConfig(source="parkett", path="x"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv: no such file"):
        load(DataConfig(source="csv", path=str(tmp_path / "gone.csv")))


def test_a_table_needs_a_path():
    with pytest.raises(ConfigError, match=r"set data\.path=FILE"):
        load(DataConfig(source="csv"))


def test_a_built_in_reader_loads_a_file(tmp_path):
    (tmp_path / "t.csv").write_text("study_id,findings,impression\na,x,y\n")
    (found,) = load(DataConfig(source="csv", path=str(tmp_path / "t.csv"))).studies
    assert (found.study_id, found.sections) == ("a", study("a", "x", "y").sections)


def test_a_fingerprint_is_size_and_hash_of_the_file(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"abc")
    found = fingerprint(DataConfig(source="csv", path=str(tmp_path / "t.csv")))
    # SHA-256 of "abc", from FIPS 180-2, appendix B.1
    assert found == {"size": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    with pytest.raises(DataError, match="no such file"):
        fingerprint(DataConfig(source="csv", path=str(tmp_path / "gone.csv")))


def test_the_fingerprint_of_a_folder_follows_names_and_sizes_of_its_files(tmp_path):
    data = DataConfig(source="openi", path=str(tmp_path))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.xml").write_text("four")
    (tmp_path / "a.xml").write_text("x")
    first = fingerprint(data)
    assert (first["files"], first["size"]) == (2, 5)
    (tmp_path / "a.xml").write_text("y")
    assert fingerprint(data) == first
    (tmp_path / "a.xml").write_text("yy")
    assert fingerprint(data) != first
    (tmp_path / "a.xml").write_text("y")
    (tmp_path / "a.xml").rename(tmp_path / "c.xml")
    assert fingerprint(data)["sha256"] != first["sha256"]


def test_the_name_of_a_file_tells_its_reader(tmp_path):
    names = ["a.csv", "a.csv.gz", "a.JSONL", "a.parquet", "a.tgz", "a.tar.gz"]
    found = [source_of(tmp_path / name) for name in names]
    assert found == ["csv", "csv", "jsonl", "parquet", "openi", "openi"]
    assert source_of(tmp_path) == "openi"
    with pytest.raises(DataError, match=r"data\.source"):
        source_of(tmp_path / "a.xlsx")
