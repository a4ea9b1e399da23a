"""Sites by source and by style: disjoint, without regard to order, patients and near duplicates together."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import tiny

from radiograd.config import DataConfig, RunConfig, parse_config
from radiograd.data import fingerprint, load
from radiograd.data.prepare import divide_loaded, prepare
from radiograd.data.sites import divide_by_style, site_of_each, style_features, style_scores
from radiograd.data.splits import study_groups
from radiograd.errors import ConfigError, DataError
from radiograd.evaluate import strata
from radiograd.types import Sections, Study

TELEGRAM = "Heart size normal. Lungs clear. No effusion. "
PROSE = "The heart is normal in size. The lungs are clear. There is no pleural effusion. "


def written(n: int, seed: int = 0) -> list[Study]:
    """Studies of which every other is written as telegram, the others in sentences; some patients have two."""
    rng = random.Random(seed)
    made = []
    for number in range(n):
        words = " ".join(f"w{rng.randrange(10**6)}" for _ in range(8))
        text = (TELEGRAM if number % 2 else PROSE) + (f"Film {words}." if number % 2 else f"The film is of {words}.")
        patient = f"p{number // 4 * 4 + number % 2:03d}"
        made.append(Study(f"s{number:03d}", patient, "made", Sections(text, "Normal."), normal=number % 3 == 0))
    return made


def config(**data: Any) -> RunConfig:
    return parse_config({"data": {"source": "csv", "sites": {"rule": "style"}, **data}}, "test")


def test_a_telegram_has_neither_verbs_nor_articles() -> None:
    # "The heart is normal.": 1 sentence, 1 with a verb; 1 article of 4 words; log 4
    assert style_features("The heart is normal.") == pytest.approx((1.0, 0.25, 1.3862943611198906))
    assert style_features("Heart normal. Lungs clear.") == pytest.approx((0.0, 0.0, 0.6931471805599453))
    assert style_features("") == (0.0, 0.0, 0.0)
    first, second = style_scores([TELEGRAM, PROSE])
    assert (first, second) == pytest.approx((-1.0, 1.0))  # of two, each feature is -1 and 1 when standardised


def test_the_same_everywhere_has_no_style() -> None:
    assert style_scores(["Lungs clear."] * 3) == [0.0, 0.0, 0.0]


def test_style_sites_are_disjoint_and_of_equal_size() -> None:
    studies = written(40)
    groups = study_groups(studies, 0.7, 7)
    sites = site_of_each(studies, groups, config().data)
    assert sites.keys() == {study.study_id for study in studies}
    of = {name: {s for s, site in sites.items() if site == name} for name in ("style-1", "style-2")}
    assert (len(of["style-1"]), len(of["style-2"])) == (20, 20)
    assert all(int(study_id[1:]) % 2 == 1 for study_id in of["style-1"])  # the telegrams


def test_the_impression_and_the_codes_are_not_looked_at() -> None:
    studies = written(40)
    other = [
        replace(
            s, sections=Sections(s.sections.findings, "There is a large effusion."), normal=not s.normal, codes=("x",)
        )
        for s in studies
    ]
    groups = study_groups(studies, 0.7, 7)
    assert site_of_each(studies, groups, config().data) == site_of_each(other, groups, config().data)


@pytest.mark.parametrize("seed", range(5))
def test_sites_do_not_depend_on_the_order_of_rows(seed: int) -> None:
    studies = [
        *written(60),
        *(replace(s, study_id=f"x{s.study_id}", patient_id=f"x{s.patient_id}") for s in tiny.studies(40)),
    ]
    shuffled = list(studies)
    random.Random(seed).shuffle(shuffled)
    found = [site_of_each(some, study_groups(some, 0.7, 7), config().data) for some in (studies, shuffled)]
    assert found[0] == found[1]


def test_patients_and_near_duplicates_are_in_one_site() -> None:
    studies = written(40)
    # a telegram of a patient who otherwise has sentences, and a copy of a text under another patient
    studies += [replace(studies[1], study_id="t", patient_id="p000"), replace(studies[2], study_id="u", patient_id="q")]
    groups = study_groups(studies, 0.7, 7)
    sites = site_of_each(studies, groups, config().data)
    for number in set(groups):
        assert len({sites[s.study_id] for s, group in zip(studies, groups, strict=True) if group == number}) == 1
    assert sites["t"] == sites["s000"]
    assert sites["u"] == sites["s002"]


def test_three_styles_of_which_one_group_is_too_large() -> None:
    studies = written(30)
    sites = divide_by_style(studies, [0] * 20 + list(range(1, 11)), 3)
    assert len({sites[study.study_id] for study in studies[:20]}) == 1
    assert set(sites.values()) <= {"style-1", "style-2", "style-3"}


def test_a_run_trains_on_its_sites_and_is_tested_on_all_on_the_same_studies() -> None:
    from radiograd.data import Loaded

    studies = written(200)
    both, first, second = (
        divide_loaded(Loaded(studies, []), config(sites={"rule": "style", "train": train}, split={"seed": 7}))
        for train in ([], ["style-1"], ["style-2"])
    )
    assert [s.study_id for s in first.test] == [s.study_id for s in second.test] == [s.study_id for s in both.test]
    assert {s.site for s in first.test} == {"style-1", "style-2"}
    for prepared, site in ((first, "style-1"), (second, "style-2")):
        assert {s.site for part in (prepared.train, prepared.val, prepared.pool) for s in part} == {site}
    assert len(first.train) + len(second.train) == len(both.train)
    counts = both.counts["sites"]
    assert sum(of["studies"] for of in counts.values()) == 200
    assert counts["style-1"]["sentences_with_verb_share"] < counts["style-2"]["sentences_with_verb_share"]
    assert {name: len(places) for name, places in strata(first.test).items() if name.startswith("site: ")} == {
        f"site: {name}": counts[name]["test"] for name in ("style-1", "style-2")
    }


def test_without_sites_nothing_is_said_of_them(tmp_path: Path) -> None:
    values = {"data": {"source": "csv", "path": str(tiny.write_table(tmp_path / "rows.csv", 60))}}
    prepared = prepare(parse_config(values, "x"))
    assert "sites" not in prepared.counts
    assert {study.site for study in prepared.train} == {None}
    assert set(strata(prepared.test)) == {"all", "normal", "abnormal"}


# ---- further sources -------------------------------------------------------------------------------------------------


@pytest.fixture
def two_sources(tmp_path: Path) -> dict[str, Any]:
    """Two files whose ids and patients have the same names."""
    more = [{"name": "there", "source": "csv", "path": str(tiny.write_table(tmp_path / "b.csv", 40, seed=5))}]
    return {"source": "csv", "path": str(tiny.write_table(tmp_path / "a.csv", 60)), "more": more}


def test_a_further_source_is_a_site_with_names_of_its_own(two_sources: dict[str, Any]) -> None:
    data = DataConfig(**two_sources)
    assert data.site_names == ("csv", "there")
    loaded = load(data)
    assert len(loaded.studies) == len({study.study_id for study in loaded.studies}) == 100
    assert {study.patient_id.startswith("there:") for study in loaded.studies[60:]} == {True}
    prepared = prepare(parse_config({"data": {**two_sources, "sites": {"train": ["there"]}}}, "x"))
    assert {study.site for study in prepared.train} == {"there"}
    assert {study.site for study in prepared.test} == {"csv", "there"}
    assert set(prepared.counts["sites"]) == {"csv", "there"}


def test_a_further_source_beside_styles(two_sources: dict[str, Any]) -> None:
    prepared = prepare(parse_config({"data": {**two_sources, "sites": {"rule": "style"}}}, "x"))
    assert {study.site for study in prepared.pool} == {"style-1", "style-2", "there"}


def test_a_further_source_that_changes_is_noticed(two_sources: dict[str, Any]) -> None:
    data = DataConfig(**two_sources)
    before = fingerprint(data)
    assert set(before["more"]) == {"there"}
    path = Path(two_sources["more"][0]["path"])
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert fingerprint(data) != before
    assert "more" not in fingerprint(DataConfig(source="csv", path=two_sources["path"]))


def test_reports_are_public_only_where_all_of_them_are(two_sources: dict[str, Any]) -> None:
    assert DataConfig().public
    assert not DataConfig(more=two_sources["more"]).public
    assert not DataConfig(**two_sources).public


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"sites": {"train": ["a"]}}, r"data: sites\.train: no site is called 'a'\. There is only one site\."),
        ({"sites": {"rule": "style", "train": ["style-3"]}}, r"no site is called 'style-3'\. Did you mean 'style-"),
        ({"sites": {"rule": "styles"}}, r"data\.sites\.rule: Input should be 'source' or 'style'"),
        ({"more": [{"name": "openi", "source": "csv"}]}, "two sites have the same name; there are openi, openi"),
        ({"more": [{"name": "a:b", "source": "csv"}]}, r"data\.more\.0\.name: String should match pattern"),
    ],
)
def test_a_wrong_site_is_told_before_anything_is_read(data: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config({"data": data}, "test")


def test_a_site_without_training_studies_is_told(two_sources: dict[str, Any], tmp_path: Path) -> None:
    two_sources["more"][0]["path"] = str(tiny.write_table(tmp_path / "c.csv", 1, seed=9))
    with pytest.raises(DataError, match="no study of there falls into"):
        prepare(parse_config({"data": {**two_sources, "sites": {"train": ["there"]}}}, "x"))
