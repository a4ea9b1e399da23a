import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd import baselines
from radiograd.baselines import BASELINES, commonest, nearest_texts
from radiograd.errors import ConfigError, DataError
from radiograd.types import Sections, Study


def study(study_id, findings="lungs clear", impression="normal", patient=None):
    sections = Sections(findings=findings, impression=impression)
    return Study(study_id, patient or f"patient of {study_id}", "toy", sections)


def build(name, train, test, seed, task="findings_to_impression"):
    return baselines.build(name, train, test, seed, task)


TRAIN = [
    study("t1", "the heart is enlarged", "Cardiomegaly."),
    study("t2", "the lungs are clear", "No acute disease."),
    study("t3", "the lungs are clear again", "no acute disease"),
    study("t4", "small right effusion", "No acute disease."),
    study("t5", None, "Cardiomegaly."),
    study("t6", "an empty impression", ""),
]
TEST = [study(f"h{i}", f"findings {i}", f"impression {i}") for i in range(7)]


def test_constant_is_the_commonest_impression_in_its_commonest_spelling():
    # no acute disease x 3 (twice "No acute disease."), cardiomegaly x 2
    assert build("constant", TRAIN, TEST, 0) == {s.study_id: "No acute disease." for s in TEST}


def test_a_tie_goes_to_the_alphabetically_first_whatever_the_order():
    assert commonest(["b.", "a", "B.", "A"]) == "A"
    assert commonest(["A", "B.", "a", "b."]) == "A"


def test_constant_needs_an_impression_to_learn_from():
    with pytest.raises(DataError, match="'constant' needs a train impression that holds a word"):
        build("constant", [study("t", "findings", None)], TEST, 0)


def test_retrieval_takes_the_impression_of_the_most_similar_findings():
    held_out = [study("h1", "HEART enlarged."), study("h2", "a small effusion on the right")]
    assert build("retrieval", TRAIN, held_out, 0) == {"h1": "Cardiomegaly.", "h2": "No acute disease."}


def test_a_rare_shared_word_weighs_more_than_a_common_one():
    pool = ["the lungs", "the heart", "the bones", "effusion seen"]
    # "the" stands in 3 of 4 texts, "effusion" in 1: idf ln(5/4)+1 = 1.22 against ln(5/2)+1 = 1.92
    assert nearest_texts(pool, ["the effusion"]) == [3]


def test_similarity_is_the_tfidf_cosine_worked_by_hand():
    # pool: [a b], [a a]; idf a = ln(3/3)+1 = 1, b = ln(3/2)+1 = 1.405. Query [a]: cosine with the first is
    # 1 / sqrt(1 + 1.405^2) = 0.58, with the second (1 + ln 2) / (1 + ln 2) = 1.
    assert nearest_texts(["a b", "a a"], ["a"]) == [1]


def test_findings_without_a_known_word_get_the_constant_sentence():
    assert build("retrieval", TRAIN, [study("h1", "xyzzy"), study("h2", None)], 0) == {
        "h1": "No acute disease.",
        "h2": "No acute disease.",
    }


def test_equal_findings_go_to_the_smaller_study_id_whatever_the_order():
    train = [study("t2", "clear", "second"), study("t1", "clear", "first")]
    assert build("retrieval", train, [study("h", "clear")], 0) == {"h": "first"}
    assert build("retrieval", train[::-1], [study("h", "clear")], 0) == {"h": "first"}


def test_retrieval_needs_a_study_with_both_sections():
    with pytest.raises(DataError, match="'retrieval' needs a train study"):
        build("retrieval", [study("t", None)], TEST, 0)


def test_other_patient_gives_each_impression_once_and_nobody_his_own():
    texts = build("other_patient", [], TEST, 3)
    assert list(texts) == [s.study_id for s in TEST]
    assert sorted(texts.values()) == sorted(s.sections.impression for s in TEST)
    assert all(texts[s.study_id] != s.sections.impression for s in TEST)


def test_other_patient_follows_the_seed_and_not_the_order():
    assert build("other_patient", [], TEST, 3) == build("other_patient", [], TEST[::-1], 3)
    assert len({tuple(build("other_patient", [], TEST, seed).values()) for seed in range(5)}) > 1


@given(patients=st.lists(st.sampled_from("abcde"), min_size=2, max_size=12), seed=st.integers(0, 9))
def test_other_patient_never_gives_an_impression_of_the_same_patient(patients, seed):
    held_out = [study(f"h{i}", impression=f"{p}{i}", patient=p) for i, p in enumerate(patients)]
    if len(set(patients)) == 1:
        with pytest.raises(DataError, match="at least two patients"):
            build("other_patient", [], held_out, seed)
        return
    texts = build("other_patient", [], held_out, seed)
    assert all(texts[s.study_id][0] != s.patient_id for s in held_out)
    if 2 * max(Counter(patients).values()) <= len(patients):
        assert len(set(texts.values())) == len(patients)


def test_a_study_without_impression_gives_none():
    held_out = [study("h1", impression=None), study("h2", impression="two"), study("h3", impression="three")]
    assert set(build("other_patient", [], held_out, 0).values()) == {"two", "three"}


def test_copied_findings_are_the_findings():
    assert build("copy_findings", [], [study("h1", "As Seen."), study("h2", None)], 0) == {"h1": "As Seen.", "h2": ""}


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'retrieval'"):
        build("retreival", TRAIN, TEST, 0)


def test_every_baseline_covers_every_study_in_order():
    for name in BASELINES:
        assert list(build(name, TRAIN, TEST, 0)) == [s.study_id for s in TEST]


def test_retrieval_from_3000_for_500_takes_seconds():
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(1500)])

    def texts(n):
        return [" ".join(words[(1500 * rng.random(30) ** 3).astype(int)]) for _ in range(n)]

    pool, queries = texts(3000), texts(500)
    started = time.perf_counter()
    found = nearest_texts(pool, queries)
    assert time.perf_counter() - started < 5
    assert None not in found


# ---- whole reports


def reported(study_id, indication, findings="clear", impression="normal", comparison=None):
    sections = Sections(findings=findings, impression=impression, comparison=comparison)
    return Study(study_id, f"patient of {study_id}", "toy", sections, indication=indication)


REPORTS = [
    reported("t1", "Fall, rib pain.", "Rib fracture.", "Fracture."),
    reported("t2", "Cough.", "Clear.", "Normal."),
    reported("t3", "Cough and fever.", "clear", "Normal"),
]


def test_the_constant_report_is_the_commonest_whole_report():
    assert build("constant", REPORTS, TEST[:1], 0, "report") == {"h0": "Findings: Clear.\nImpression: Normal."}


def test_a_report_is_retrieved_by_what_its_prompt_shows_and_by_nothing_else():
    # the findings would lead to t2; the model does not see them, so they must not lead the row either
    held_out = [reported("h1", "rib pain after a fall", "Clear.", "Normal."), reported("h2", None, "Rib fracture.")]
    assert build("retrieval", REPORTS, held_out, 0, "report") == {
        "h1": "Findings: Rib fracture.\nImpression: Fracture.",
        "h2": "Findings: Clear.\nImpression: Normal.",
    }


def test_another_patients_report_is_a_whole_one():
    texts = build("other_patient", [], REPORTS, 0, "report")
    assert sorted(texts.values()) == sorted(study.sections.report for study in REPORTS)
    assert all(texts[study.study_id] != study.sections.report for study in REPORTS)


def test_findings_cannot_be_copied_into_a_report():
    with pytest.raises(ConfigError, match="'copy_findings' repeats the findings, which a report is yet to say"):
        build("copy_findings", REPORTS, TEST, 0, "report")
