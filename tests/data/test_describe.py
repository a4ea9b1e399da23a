import json

from studies_fixture import study

from radiograd.config import DataConfig, RunConfig
from radiograd.data.describe import describe, describe_source, normalised, render
from radiograd.types import Image

STUDIES = [
    study("a", "one two three", "No acute disease.", normal=True, images=(Image("i1"), Image("i2")), split="train"),
    study("b", "one two three", "NO ACUTE DISEASE", normal=True, split="train"),
    study("c", "four XXXX five six", "Large mass, XXXX.", normal=False, split="test", indication="Cough"),
    study("d", "", "Mass."),
    study("e", "seven", None),
]


def test_numbers_are_those_counted_by_hand():
    facts = describe(STUDIES)
    assert (facts["studies"], facts["patients"], facts["usable"]) == (5, 5, 3)
    findings = facts["sections"]["findings"]
    assert (findings["with_text"], findings["empty"], findings["absent"]) == (4, 1, 0)
    assert findings["words"]["median"] == 3  # 1, 3, 3, 4
    assert findings["words"]["max"] == 4
    assert facts["sections"]["comparison"] == {"with_text": 0, "empty": 0, "absent": 5, "words": None}
    assert facts["distinct_impressions"] == 3  # a and b are the same words
    assert facts["commonest_impression_share"] == 2 / 4
    assert facts["template_share"] == 1.0  # fewer than twenty distinct
    assert facts["exact_duplicate_pair_share"] == 1 / 3
    assert facts["normal_share"] == 2 / 3
    assert facts["normal_unknown"] == 2
    assert facts["redacted_share"] == 1 / 5
    assert facts["redacted_impression_share"] == 1 / 4
    assert (facts["images"], facts["studies_with_images"], facts["with_indication"]) == (2, 1, 1)
    assert facts["splits"] == {"train": 2, "test": 1}


def test_the_template_share_counts_the_twenty_commonest():
    studies = [study(f"s{k}", impression=f"finding {k}") for k in range(30)] + [study("x", impression="Finding 3")]
    assert describe(studies)["template_share"] == 21 / 31  # one twice, nineteen once
    assert describe(studies)["commonest_impression_share"] == 2 / 31


def test_percentiles_are_between_the_words_counted():
    studies = [study(f"s{k}", "word " * (k + 1)) for k in range(21)]  # 1 .. 21 words
    assert describe(studies)["sections"]["findings"]["words"] == {"median": 11, "p5": 2, "p95": 20, "max": 21}


def test_facts_are_json_and_the_text_shows_numbers_but_no_report():
    facts = describe(STUDIES)
    assert json.loads(json.dumps(facts)) == facts
    text = render(facts)
    assert "66.7 %" in text
    assert "train 2, test 1" in text
    for word in ("acute", "Cough", "mass"):
        assert word not in text


def test_no_studies_are_described_without_dividing_by_zero():
    facts = describe([])
    assert facts["template_share"] is None
    assert "-" in render(facts)


def test_normalised_text_is_lower_case_words():
    assert normalised("  No acute,\nDISEASE. ") == "no acute disease"


def test_a_source_is_described_whole_with_the_sizes_of_its_splits(tmp_path):
    rows = "".join(f"s{k},w{k} x{k},Mass.\n" for k in range(20))
    (tmp_path / "t.csv").write_text("study_id,findings,impression\n" + rows + "x,,Mass.\nx,ragged\n")
    facts = describe_source(RunConfig(data=DataConfig(source="csv", path=str(tmp_path / "t.csv"))))
    assert (facts["studies"], facts["usable"], facts["problems"], facts["split_problem"]) == (21, 20, 1, None)
    assert sum(facts["splits"].values()) == 20
    assert "rows passed over" in render(facts)


def test_a_source_that_cannot_be_split_is_described_and_says_why(tmp_path):
    (tmp_path / "t.csv").write_text("study_id,findings,impression\ns1,Clear.,Normal.\n")
    facts = describe_source(RunConfig(data=DataConfig(source="csv", path=str(tmp_path / "t.csv"))))
    assert facts["splits"] == {}
    assert "1 of 1 studies" in facts["split_problem"]
    assert "cannot be split: 1 of 1 studies" in render(facts)
