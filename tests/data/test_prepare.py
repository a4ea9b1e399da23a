import json
from pathlib import Path

import pytest
from hypothesis import given as examples
from hypothesis import strategies as st
from studies_fixture import distinct_studies, study

from radiograd.config import DataConfig, LimitConfig, RunConfig, SplitConfig
from radiograd.data import Loaded
from radiograd.data.prepare import divide_loaded, is_usable, normal_share, prepare, redacted_share
from radiograd.errors import DataError
from radiograd.types import Image, Problem, Sections, Study


def config(limit: LimitConfig | None = None, **split) -> RunConfig:
    return RunConfig(data=DataConfig(source="csv", split=SplitConfig(**split), limit=limit or LimitConfig()))


def ids(studies: list[Study]) -> list[str]:
    return [s.study_id for s in studies]


def test_a_study_needs_a_letter_in_both_sections():
    assert is_usable(study("a", "Clear.", "x"))
    assert not is_usable(study("a", None, "x"))
    assert not is_usable(study("a", "Clear.", ""))
    assert not is_usable(study("a", "Clear.", " 1. - "))


def test_every_usable_study_lands_in_one_split_and_knows_it():
    studies = [*distinct_studies(40), study("x", None), study("y", "text", "")]
    prepared = divide_loaded(Loaded(studies, [Problem("row 3", "is odd")]), config(val=0.1, test=0.2))
    assert (len(prepared.train), len(prepared.val), len(prepared.test)) == (28, 4, 8)
    assert {s.split for s in prepared.train} == {"train"}
    assert {s.split for s in prepared.val} == {"val"}
    assert {s.split for s in prepared.test} == {"test"}
    assert sorted(ids(prepared.train + prepared.val + prepared.test)) == ids(distinct_studies(40))
    assert prepared.problems == [Problem("row 3", "is odd")]


def test_counts_are_json_and_say_what_was_kept():
    studies = [*distinct_studies(40), study("x", None, "No XXXX."), study("y", "text", "")]
    counts = divide_loaded(Loaded(studies, [Problem("row 3", "is odd")]), config(val=0.1, test=0.2)).counts
    assert json.loads(json.dumps(counts)) == counts
    wanted = {
        "read": 42, "problems": 1, "without_findings": 1, "without_impression": 1, "usable": 40, "patients": 40,
        "groups": 40, "largest_group": 1, "near_duplicate_pairs_across_splits": 0, "normal_share": 0.5,
        "redacted_impression_share": 0.0, "kept_in_train_by_limit": 0,
    }  # fmt: skip
    assert {key: counts[key] for key in wanted} == wanted
    assert {name: part["studies"] for name, part in counts["splits"].items()} == {"train": 28, "val": 4, "test": 8}


def test_limits_draw_from_the_same_split_and_do_not_depend_on_row_order():
    studies = distinct_studies(100)
    whole = divide_loaded(Loaded(studies, []), config())
    limited = divide_loaded(Loaded(studies, []), config(LimitConfig(train=10, val=3)))
    reversed_rows = divide_loaded(Loaded(studies[::-1], []), config(LimitConfig(train=10, val=3)))
    assert (len(limited.train), len(limited.val)) == (10, 3)
    assert set(ids(limited.train)) < set(ids(whole.train))
    assert ids(limited.test) == ids(whole.test)
    assert ids(limited.train) == sorted(ids(limited.train))  # the source's order is kept
    assert set(ids(reversed_rows.train)) == set(ids(limited.train))
    assert limited.counts["splits"]["train"]["used"] == 10
    assert limited.counts["splits"]["train"]["studies"] == len(whole.train)


@pytest.mark.parametrize("usable", [0, 1])
def test_too_few_usable_studies_are_refused(usable):
    studies = [*distinct_studies(usable), study("x", None), study("y", None)]
    with pytest.raises(DataError, match=rf"^{usable} of {usable + 2} studies read have both.*data\.columns"):
        divide_loaded(Loaded(studies, []), config())


def test_an_empty_split_is_refused_with_a_way_out():
    with pytest.raises(DataError, match="no study of 2 falls into train; give more studies"):
        divide_loaded(Loaded(distinct_studies(2), []), config())
    copies = [study(f"s{k}") for k in range(10)]
    with pytest.raises(DataError, match=r"no study of 10 falls into val and test.*near_duplicate"):
        divide_loaded(Loaded(copies, []), config())
    given = [study("a", split="train"), study("b", split="test")]
    with pytest.raises(DataError, match=r"falls into val;.*data\.split\.val=0"):
        divide_loaded(Loaded(given, []), config(use_given=True))
    given = [study("a", split="train"), study("b", split="val")]
    with pytest.raises(DataError, match=r"falls into test; name it in the data, or set data\.split\.use_given=false$"):
        divide_loaded(Loaded(given, []), config(use_given=True))


def test_a_split_whose_share_is_zero_may_be_empty():
    assert divide_loaded(Loaded(distinct_studies(20), []), config(val=0.0)).val == []


def test_given_splits_are_kept_and_their_leaks_counted():
    studies = [
        study("a", "a b c d", split="train"),
        study("b", "d c b a", split="validate"),
        study("c", "e f g", split="test", patient_id="a"),
    ]
    prepared = divide_loaded(Loaded(studies, []), config(use_given=True))
    assert (ids(prepared.train), ids(prepared.val), ids(prepared.test)) == (["a"], ["b"], ["c"])
    assert prepared.val[0].split == "val"
    assert prepared.counts["near_duplicate_pairs_across_splits"] == 1
    assert prepared.counts["exact_duplicate_pairs_across_splits"] == 1
    assert prepared.counts["held_out_studies_with_near_duplicate_elsewhere"] == 1
    assert prepared.counts["patients_across_splits"] == 1


def test_prepare_reads_a_file(tmp_path):
    rows = "".join(f"s{k},w{k} x{k},Mass.\n" for k in range(20))
    (tmp_path / "t.csv").write_text("study_id,findings,impression\n" + rows)
    prepared = prepare(RunConfig(data=DataConfig(source="csv", path=str(tmp_path / "t.csv"))))
    assert len(prepared.train) + len(prepared.val) + len(prepared.test) == 20


def test_shares_leave_out_what_is_unknown():
    assert normal_share([study("a", normal=True), study("b", normal=False), study("c")]) == 0.5
    assert normal_share([study("c")]) is None
    assert redacted_share(["XXXX year old", "clear", "clear", "clear"]) == 0.25
    assert redacted_share([]) is None


TEXT = st.none() | st.text(max_size=8)
STUDIES = st.builds(
    Study,
    study_id=st.text(),
    patient_id=st.text(),
    source=st.text(),
    sections=st.builds(
        Sections,
        findings=TEXT,
        impression=TEXT,
        comparison=TEXT,
        spans=st.dictionaries(st.text(max_size=4), st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=2),
        ambiguous=st.booleans(),
    ),
    split=TEXT,
    images=st.lists(
        st.builds(
            Image,
            st.text(max_size=4),
            st.none() | st.sampled_from(["a", "b/c.png"]).map(Path),
            st.none() | st.just("PA"),
        ),
        max_size=2,
    ).map(tuple),
    prior=TEXT,
    indication=TEXT,
    codes=st.lists(st.text(max_size=4), max_size=2).map(tuple),
    normal=st.none() | st.booleans(),
)


@examples(STUDIES)
def test_a_study_comes_back_whole_from_a_json_line(one):
    assert Study.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_a_cap_keeps_some_of_each_group_in_train_and_leaves_the_held_out_sets_alone():
    same = [study(f"copy{k}", "The lungs are clear and the heart is normal in size.", "Normal.") for k in range(9)]
    loaded = Loaded([*distinct_studies(40), *same], [])
    whole = divide_loaded(loaded, config(val=0.1, test=0.2))
    capped = divide_loaded(loaded, config(LimitConfig(train_per_group=2), val=0.1, test=0.2))
    assert ids(capped.val) == ids(whole.val)
    assert ids(capped.test) == ids(whole.test)
    assert sum(i.startswith("copy") for i in ids(whole.train)) == 9  # too large a group to hold out
    assert sum(i.startswith("copy") for i in ids(capped.train)) == 2
    assert capped.pool == whole.pool == whole.train  # what trivial rows are built from knows no limit
    assert {i for i in ids(capped.train) if not i.startswith("copy")} == {
        i for i in ids(whole.train) if not i.startswith("copy")
    }
