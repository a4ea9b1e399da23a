import pytest
from studies_fixture import distinct_studies, study

from radiograd.config import DataConfig, SplitConfig
from radiograd.data import DUPLICATE_ID, Loaded
from radiograd.data.check import Finding, check, examine
from radiograd.types import Problem, Study

DRAWN = SplitConfig()


def about(found: list[Finding], words: str) -> Finding:
    (one,) = [finding for finding in found if words in finding.message]
    return one


def with_clean(*odd: Study) -> Loaded:
    return Loaded([*distinct_studies(10), *odd], [])


def messages(found: list[Finding]) -> str:
    return "\n".join(finding.message for finding in found)


def test_a_clean_set_has_no_error_and_no_warning():
    long_enough = [study(f"s{k}", f"shadow a{k} b{k} c{k}", f"Mass at {k}.") for k in range(10)]
    assert examine(Loaded(long_enough, []), DRAWN, 0) == []


def test_absent_and_empty_sections_are_told_apart():
    found = examine(with_clean(study("x", None), study("y", "a b c", " - "), study("z", "")), DRAWN, 0)
    assert about(found, "no findings section") == Finding("warning", 1, "studies have no findings section", ("x",))
    assert about(found, "findings that are empty").ids == ("z",)
    assert about(found, "impression that are empty").ids == ("y",)


def test_at_most_five_ids_are_shown():
    found = about(examine(with_clean(*(study(f"x{k}", None) for k in range(9))), DRAWN, 0), "no findings section")
    assert (found.count, found.ids) == (9, ("x0", "x1", "x2", "x3", "x4"))


def test_very_short_and_very_long_texts_are_noted():
    found = examine(with_clean(study("x", "One two", "word " * 151)), DRAWN, 0)
    assert about(found, "findings under 3 words").ids == ("x",)
    assert about(found, "impression over 150 words").level == "info"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("caf\ufffd au lait", "replacement characters"),
        ("cafÃ© au lait", "Windows-1252"),
        ("the patientâ€™s chest", "Windows-1252"),
        ("20Â°C and more", "Windows-1252"),
        ("a bell \x07 rings", "control characters"),
    ],
)
def test_encoding_trouble_is_seen_in_any_text(text, words):
    for odd in (study("x", text), study("x", indication=text), study("x", prior=text)):
        finding = about(examine(with_clean(odd), DRAWN, 0), words)
        assert (finding.level, finding.ids) == ("warning", ("x",))


@pytest.mark.parametrize("text", ["café, 20 °C, naïve – “fine”", "PULMÃO LIVRE", "line\nbreak\tand tab"])
def test_good_unicode_is_no_trouble(text):
    assert "studies hold" not in messages(examine(with_clean(study("x", text)), DRAWN, 0))
    assert "Windows-1252" not in messages(examine(with_clean(study("x", text)), DRAWN, 0))


def test_duplicate_ids_are_an_error_and_come_first():
    loaded = with_clean(study("x", None))
    loaded.problems.extend([Problem("t.csv:9", DUPLICATE_ID), Problem("t.csv:4", "has 3 cells, the header has 4")])
    found = examine(loaded, DRAWN, 0)
    assert found[0] == Finding("error", 1, "rows repeat a study_id and were passed over", ("t.csv:9",))
    assert about(found, "could not be read").ids == ("t.csv:4",)


def test_copies_and_groups_are_noted():
    found = examine(with_clean(study("x"), study("y"), study("z", "are clear lungs", "Other.")), DRAWN, 0)
    assert about(found, "copy findings and impression").ids == ("y",)
    assert about(found, "share a group").count == 3


def test_leaks_of_a_given_split_are_named():
    studies = [
        study("a", "a b c d e f g h", split="train"),
        study("b", "h g f e d c b a", split="test"),
        study("c", "a b c d e f g i j", split="val"),
        study("d", "k l m", split="test", patient_id="a"),
    ]
    found = examine(Loaded(studies, []), SplitConfig(use_given=True), 0)
    assert about(found, "patients have studies in more than one split").ids == ("a",)
    same_words = about(found, "same words")
    assert (same_words.level, same_words.ids) == ("error", ("b",))
    assert about(found, "near-duplicate findings (0.7)").ids == ("b", "c")


def test_a_given_split_that_is_missing_is_an_error_not_a_crash():
    found = examine(with_clean(), SplitConfig(use_given=True), 0)
    assert about(found, "name no split").level == "error"


def test_too_few_usable_studies_are_an_error():
    finding = about(examine(Loaded([study("a")], []), DRAWN, 0), "at least one each")
    assert (finding.level, finding.count) == ("error", 1)


def test_check_reads_a_source_and_never_repeats_its_text(tmp_path):
    (tmp_path / "t.csv").write_text("study_id,findings,impression\na,secretword,\nb,secretword \x07,secretword\n")
    found = check(DataConfig(source="csv", path=str(tmp_path / "t.csv")), 0)
    assert found
    assert "secretword" not in repr(found)


def test_studies_whose_prompt_would_be_bare_are_told_for_the_task_that_shows_it():
    from dataclasses import replace

    bare = distinct_studies(10)
    told = [replace(s, indication="Cough.") for s in bare[:8]]
    found = examine(Loaded([*told, *bare[8:]], []), DRAWN, 0, "report")
    noted = about(found, "neither indication nor comparison")
    assert (noted.level, noted.count) == ("warning", 2)
    assert "neither indication" not in messages(examine(Loaded(bare, []), DRAWN, 0))
