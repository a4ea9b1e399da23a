import builtins
import gzip
import json
import logging
from pathlib import Path

import pytest

from radiograd.data import DUPLICATE_ID
from radiograd.data.table import read_csv, read_jsonl, read_parquet
from radiograd.errors import ConfigError, DataError, MissingExtra
from radiograd.types import Problem, Study

HEAD = "study_id,patient_id,findings,impression\n"


def csv_file(path: Path, text: str | bytes) -> Path:
    file = path / "table.csv"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def jsonl_file(path: Path, *rows: object) -> Path:
    file = path / "table.jsonl"
    file.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return file


def apart(rows) -> tuple[list[Study], list[Problem]]:
    rows = list(rows)
    return [r for r in rows if isinstance(r, Study)], [r for r in rows if isinstance(r, Problem)]


# ---- CSV


def test_a_row_becomes_a_study(tmp_path):
    text = "study_id,patient_id,findings,impression,comparison,indication,prior,normal,split\n"
    text += 's1,p1,"Clear, dry lungs.\nNo effusion.",Normal.,None available.,Cough,Old report.,yes,train\n'
    ((study,), problems) = apart(read_csv(csv_file(tmp_path, text), {}))
    assert problems == []
    assert (study.study_id, study.patient_id, study.source, study.split) == ("s1", "p1", "csv", "train")
    assert study.sections.findings == "Clear, dry lungs.\nNo effusion."
    assert study.sections.impression == "Normal."
    assert study.sections.comparison == "None available."
    assert (study.indication, study.prior, study.normal) == ("Cough", "Old report.", True)


def test_columns_are_mapped_to_fields(tmp_path):
    file = csv_file(tmp_path, "Accession,F,Conclusion\n7,a,b\n")
    columns = {"study_id": "Accession", "findings": "F", "impression": "Conclusion"}
    ((study,), _) = apart(read_csv(file, columns))
    assert (study.study_id, study.sections.findings, study.sections.impression) == ("7", "a", "b")


def test_a_gzip_table_and_a_byte_order_mark_are_read(tmp_path):
    file = tmp_path / "t.csv.gz"
    file.write_bytes(gzip.compress(b"\xef\xbb\xbf" + (HEAD + "s1,p1,a,b\r\n").encode()))
    ((study,), _) = apart(read_csv(file, {}))
    assert study.study_id == "s1"


def test_a_missing_column_names_file_column_columns_there_and_what_to_type(tmp_path):
    with pytest.raises(DataError) as error:
        list(read_csv(csv_file(tmp_path, "study_id,finding,impression\ns1,a,b\n"), {}))
    message = str(error.value)
    assert "table.csv" in message
    assert "no column 'findings'" in message
    assert "it has: study_id, finding, impression" in message
    assert "Did you mean 'finding'?" in message
    assert "data.columns.findings=" in message


@pytest.mark.parametrize(
    "first_line",
    [
        "s1,p1,There is a small effusion at the left base of the lung,Effusion",  # longer than 40 characters
        "s1,p1,Small effusion.,Effusion",  # ends like a sentence
        's1,p1,"Effusion, small",Effusion',  # a comma
        "17,4,Small effusion,Effusion",  # starts with a digit
    ],
)
def test_cells_of_a_table_without_a_header_are_not_told(tmp_path, first_line):
    with pytest.raises(DataError) as error:
        list(read_csv(csv_file(tmp_path, f"{first_line}\n" * 2), {"impression": "Effusions"}))
    assert str(error.value) == (
        f"{tmp_path / 'table.csv'}: no column 'study_id' for study_id; it has 4 columns; is the first line a header? "
        "Set data.columns.study_id=COLUMN"
    )


def test_a_mapped_column_that_is_missing_is_refused_even_when_optional(tmp_path):
    with pytest.raises(DataError, match="no column 'Prior' for prior"):
        list(read_csv(csv_file(tmp_path, HEAD + "s1,p1,a,b\n"), {"prior": "Prior"}))


def test_a_mapped_field_that_does_not_exist_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"'finding' is not a study field\. Did you mean 'findings'"):
        list(read_csv(csv_file(tmp_path, HEAD + "s1,p1,a,b\n"), {"finding": "findings"}))


def test_a_column_that_occurs_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="'findings' occurs more than once"):
        list(read_csv(csv_file(tmp_path, "study_id,findings,findings,impression\ns,a,b,c\n"), {}))


def test_without_a_patient_column_each_study_is_a_patient_and_that_is_logged_once(tmp_path, caplog):
    caplog.set_level(logging.INFO, "radiograd")
    (found, _) = apart(read_csv(csv_file(tmp_path, "study_id,findings,impression\ns1,a,b\ns2,a,b\n"), {}))
    assert [study.patient_id for study in found] == ["s1", "s2"]
    assert [record.message for record in caplog.records if "patient_id" in record.message] == [
        f"{tmp_path / 'table.csv'}: no patient_id column; every study is taken for its own patient"
    ]


def test_a_missing_id_is_a_problem_with_its_line(tmp_path):
    file = csv_file(tmp_path, HEAD + ",p1,a,b\ns2,,a,b\ns3,p3,a,b\n")
    (found, problems) = apart(read_csv(file, {}))
    assert [study.study_id for study in found] == ["s3"]
    assert problems == [Problem(f"{file}:2", "study_id is missing"), Problem(f"{file}:3", "patient_id is missing")]


def test_a_ragged_row_is_a_problem_and_lines_are_counted_through_quoted_breaks(tmp_path):
    file = csv_file(tmp_path, HEAD + 's1,p1,"a\nb\nc",d\ns2,p2,a\n\ns3,p3,a,b\n')
    (found, problems) = apart(read_csv(file, {}))
    assert [study.study_id for study in found] == ["s1", "s3"]
    assert problems == [Problem(f"{file}:5", "has 3 cells, the header has 4")]  # s1 takes lines 2 to 4


def test_a_malformed_row_is_a_problem_and_the_next_is_read(tmp_path):
    file = csv_file(tmp_path, HEAD + 's1,p1,"a"x,b\ns2,p2,a,b\n')
    (found, problems) = apart(read_csv(file, {}))
    assert [study.study_id for study in found] == ["s2"]
    assert problems == [Problem(f"{file}:2", "is not valid CSV")]


def test_a_quote_that_is_never_closed_names_the_line_where_its_row_starts(tmp_path):
    file = csv_file(tmp_path, HEAD + 's1,p1,a,b\ns2,p2,"a,b\ns3,p3,a,b\n')
    with pytest.raises(DataError, match=r"table\.csv:3: a quote"):
        list(read_csv(file, {}))
    file = csv_file(tmp_path, HEAD + 's1,p1,"' + "long line\n" * 20000)
    with pytest.raises(DataError, match=r"table\.csv:2: a quote"):
        list(read_csv(file, {}))


def test_a_repeated_study_id_is_a_problem_for_the_second(tmp_path):
    file = csv_file(tmp_path, HEAD + "s1,p1,first,b\ns1,p1,second,b\n")
    ((study,), problems) = apart(read_csv(file, {}))
    assert study.sections.findings == "first"
    assert problems == [Problem(f"{file}:3", DUPLICATE_ID)]


def test_text_that_is_not_utf8_names_the_line_and_the_way_out_but_not_the_text(tmp_path):
    file = csv_file(tmp_path, HEAD.encode() + b"s1,p1,a,b\ns2,p2,secret caf\xe9,b\n")
    with pytest.raises(DataError) as error:
        list(read_csv(file, {}))
    assert "table.csv:3 is not UTF-8" in str(error.value)
    assert "iconv" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(("text", "said"), [("", "is empty"), (HEAD, "nothing below"), ("\na,b\n", "is blank")])
def test_a_table_without_rows_is_refused(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        list(read_csv(csv_file(tmp_path, text), {}))


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "None", "null", "<NA>"])
def test_words_for_nothing_are_absent(tmp_path, cell):
    ((study,), _) = apart(read_csv(csv_file(tmp_path, HEAD + f"s1,p1,{cell},b\n"), {}))
    assert study.sections.findings is None


@pytest.mark.parametrize(
    ("cell", "normal"), [("true", True), ("No", False), ("1", True), ("0", False), ("YES", True), ("", None)]
)
def test_normal_takes_the_usual_words(tmp_path, cell, normal):
    text = f"study_id,findings,impression,normal\ns1,a,b,{cell}\n"
    ((study,), problems) = apart(read_csv(csv_file(tmp_path, text), {}))
    assert study.normal is normal
    assert problems == []


def test_another_word_for_normal_keeps_the_study_and_says_so(tmp_path):
    file = csv_file(tmp_path, "study_id,findings,impression,normal\ns1,a,b,perhaps\n")
    ((study,), (problem,)) = apart(read_csv(file, {}))
    assert study.normal is None
    assert problem.where == f"{file}:2"
    assert "perhaps" not in problem.why


def test_a_damaged_gzip_file_and_a_folder_are_refused(tmp_path):
    file = tmp_path / "t.csv.gz"
    file.write_bytes(gzip.compress((HEAD + "s1,p1,a,b\n").encode())[:-12])
    with pytest.raises(DataError, match="breaks off or is damaged"):
        list(read_csv(file, {}))
    file.write_bytes(b"plain text")
    with pytest.raises(DataError, match="not a gzip file"):
        list(read_csv(file, {}))
    with pytest.raises(DataError, match="is a folder"):
        list(read_csv(tmp_path, {}))


# ---- JSON lines


def test_json_lines_tell_absent_from_empty_and_take_numbers_as_ids(tmp_path):
    file = jsonl_file(
        tmp_path,
        {"study_id": 12, "patient_id": 3.0, "findings": "", "impression": None, "normal": True},
        {"study_id": "b", "patient_id": "p", "findings": float("nan"), "impression": "x", "normal": 0},
        {"study_id": "c", "patient_id": "p"},
    )
    (found, problems) = apart(read_jsonl(file, {}))
    assert problems == []
    assert [(s.study_id, s.patient_id) for s in found] == [("12", "3"), ("b", "p"), ("c", "p")]
    assert [s.sections.findings for s in found] == ["", None, None]
    assert [s.sections.impression for s in found] == [None, "x", None]
    assert [s.normal for s in found] == [True, False, None]


def test_a_bad_json_line_is_a_problem_with_its_line(tmp_path):
    good = {"study_id": "a", "findings": "x", "impression": "y"}
    file = jsonl_file(tmp_path, good, "{oops\n", "\n", "[1]\n", good | {"study_id": "b", "findings": ["x"]})
    (found, problems) = apart(read_jsonl(file, {}))
    assert [s.study_id for s in found] == ["a"]
    assert problems == [
        Problem(f"{file}:2", "is not valid JSON"),
        Problem(f"{file}:4", "is not a JSON object"),
        Problem(f"{file}:5", "findings is a list, not text"),
    ]


def test_half_a_character_is_a_problem(tmp_path):
    good = {"study_id": "a", "findings": "x", "impression": "y"}
    file = jsonl_file(tmp_path, good, '{"study_id": "b", "findings": "\\ud83d", "impression": "y"}\n')
    (found, problems) = apart(read_jsonl(file, {}))
    assert [s.study_id for s in found] == ["a"]
    assert problems == [Problem(f"{file}:2", "findings holds a \\u escape that is half a character")]


def test_json_lines_without_a_key_or_without_objects_are_refused(tmp_path):
    with pytest.raises(DataError, match="no column 'impression'"):
        list(read_jsonl(jsonl_file(tmp_path, {"study_id": "a", "findings": "x"}), {}))
    with pytest.raises(DataError, match="no line is a JSON object"):
        list(read_jsonl(jsonl_file(tmp_path, "oops\n"), {}))
    with pytest.raises(DataError, match="is empty"):
        list(read_jsonl(jsonl_file(tmp_path, "\n"), {}))


# ---- Parquet


def test_parquet_gives_what_json_lines_give(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [
        {"study_id": "a", "patient_id": "p", "findings": "x", "impression": "", "normal": True},
        {"study_id": "b", "patient_id": "p", "findings": None, "impression": "y", "normal": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    (found, problems) = apart(read_parquet(tmp_path / "t.parquet", {}))
    (same, _) = apart(read_jsonl(jsonl_file(tmp_path, *rows), {}))
    assert problems == []
    assert [(s.study_id, s.sections, s.normal) for s in found] == [(s.study_id, s.sections, s.normal) for s in same]


def test_a_parquet_file_that_is_none_or_lacks_a_column_or_rows_is_refused(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    file = tmp_path / "t.parquet"
    file.write_bytes(b"not parquet")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        list(read_parquet(file, {}))
    pq.write_table(pa.table({"study_id": ["a"], "findings": ["x"]}), file)
    with pytest.raises(DataError, match="no column 'impression'"):
        list(read_parquet(file, {}))
    nothing = pa.array([], pa.string())
    pq.write_table(pa.table({"study_id": nothing, "findings": nothing, "impression": nothing}), file)
    with pytest.raises(DataError, match="holds no rows"):
        list(read_parquet(file, {}))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def without_pyarrow(name, *rest):
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(MissingExtra, match=r"radiograd\[parquet\]"):
        list(read_parquet(tmp_path / "t.parquet", {}))
