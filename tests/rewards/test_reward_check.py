from __future__ import annotations

import json

import pytest

from radiograd.config import REWARD_PRESETS
from radiograd.errors import DataError
from radiograd.judges.builtin import load_judge
from radiograd.rewards import CombinedReward, Term, build_reward
from radiograd.rewards.check import failed, probe_hacks, read_reports, reference_cases, table
from radiograd.text.edits import HACKS
from radiograd.types import Case, Score, Sections, Study

RULES = {"judge": lambda: load_judge("rules")}
REPORTS = (
    (
        "The heart is mildly enlarged. There is a small left pleural effusion.",
        "Mild cardiomegaly. Small left effusion.",
    ),
    ("There is a large right pneumothorax. The heart is normal.", "Large right pneumothorax."),
    ("There is mild right basilar atelectasis. No effusion.", "Mild right basilar atelectasis without effusion."),
    ("There is severe left lower lobe consolidation.", "Severe left lower lobe pneumonia."),
)
STUDIES = [
    Study(f"s{k}", f"p{k // 2}", "toy", Sections(findings=f, impression=i), normal=False)
    for k, (f, i) in enumerate(REPORTS)
]


def length_only(cases):
    return [Score(min(1.0, len(c.candidate.split()) / 100)) for c in cases]


def label_recall(cases):
    """What share of the reference's labels is there: pays for saying everything."""
    from radiograd.rewards.terms import present

    found = []
    for c in cases:
        true = present(c.reference)
        found.append(Score(len(true & present(c.candidate)) / len(true)) if true else Score(1.0))
    return found


def probed(reward, section="impression"):
    return {one.hack: one for one in probe_hacks(reward, reference_cases(STUDIES, section, 100))}


@pytest.mark.parametrize("preset", ["hierarchical", "hierarchical_balanced", "diagnostic_bleu"])
@pytest.mark.parametrize("section", ["impression", "report"])
@pytest.mark.parametrize("how", [{}, {"combine": "worst"}, {"combine": "mean_less_spread"}, {"length_control": True}])
def test_no_hack_beats_the_reference_under_a_shipped_reward(preset, section, how):
    found = probed(build_reward(REWARD_PRESETS[preset], **RULES, **how), section)
    assert list(found) == list(HACKS)
    assert failed(found.values()) == []
    assert found["header_omission"].verdict == ("loses" if section == "report" else "-")
    assert {one.verdict for name, one in found.items() if name != "header_omission"} == {"loses"}


def test_deers_reward_sees_labels_alone():
    """What docs/deer.md says of it: as even as the reference are a wrong side, another severity, saying it twice, and a
    prior study that there never was."""
    found = probed(build_reward(REWARD_PRESETS["diagnostic"]))
    assert set(failed(found.values())) >= {"laterality_flip", "severity_flip", "repetition", "invented_prior"}
    assert {found[name].verdict for name in failed(found.values())} == {"even"}
    assert {found[name].verdict for name in ("stuffing", "negation_flip", "empty")} == {"loses"}


def test_a_reward_of_length_alone_is_caught():
    found = probed(build_reward({f"{__name__}:length_only": 1.0}))
    assert {"stuffing", "repetition", "rare_words", "invented_prior"} <= set(failed(found.values()))
    assert found["repetition"].verdict == "gains"
    assert found["empty"].verdict == "loses"
    assert found["stuffing"].at_least == 1.0


def test_a_reward_of_label_recall_is_caught():
    found = probed(build_reward({f"{__name__}:label_recall": 1.0}))
    assert found["stuffing"].verdict == "even"  # nothing is lost by naming everything
    assert {"stuffing", "repetition", "laterality_flip"} <= set(failed(found.values()))
    assert "FAILS (even)" in table(list(found.values()))


def test_the_numbers_are_the_rewards_of_the_two_texts():
    values = {"a b c d": 0.5, "": 0.25}
    reward = CombinedReward([Term("t", lambda cases: [Score(values.get(c.candidate, 0.75)) for c in cases], 1.0, "t")])
    case = Case(Study("s", "p", "toy", Sections(impression="a b c d")), "a b c d")
    found = {one.hack: one for one in probe_hacks(reward, [case])}
    empty = found["empty"]
    assert (empty.n, empty.plain, empty.hacked, empty.at_least, empty.above) == (1, 0.5, 0.25, 0.0, 0.0)
    assert (empty.difference.difference, empty.verdict) == (-0.25, "loses")
    assert (found["repetition"].difference.difference, found["repetition"].verdict) == (0.25, "gains")


def test_the_interval_is_by_patient():
    # two patients, one gains and one loses: whatever is drawn of one patient twice goes one way
    def term(cases):
        return [Score(0.5 + (0.1 if c.study.patient_id == "p0" else -0.1) * (c.candidate == "")) for c in cases]

    found = probed(CombinedReward([Term("t", term, 1.0, "t")]))["empty"]
    assert (found.difference.low, found.difference.high) == (pytest.approx(-0.1), pytest.approx(0.1))
    assert found.verdict == "even"


def test_what_a_hack_skips_gets_the_best_that_can_happen_to_it_and_still_loses():
    reward = build_reward({"impression_f1": 1.0})
    found = probed(reward, "report")["header_omission"]
    assert found.plain == 1.0
    assert found.hacked == pytest.approx(0.5)  # the reference's own value, less the penalty
    assert (
        probed(build_reward({"impression_f1": 1.0}, format_penalty=0.0), "report")["header_omission"].verdict == "even"
    )


def test_a_judge_that_never_answers_is_no_pass():
    def never(cases):
        return [Score(None, why="timed out") for _ in cases]

    found = probed(CombinedReward([Term("t", never, 1.0, "t")]))
    assert found["empty"].verdict == "unscored"
    assert set(failed(found.values())) == set(HACKS) - {"header_omission"}
    assert "FAILS (unscored)" in table(list(found.values()))


def test_a_policy_text_that_is_wrong_may_gain_from_a_flip_and_is_only_warned_of():
    cases = [Case(study, study.sections.impression.replace("left", "right"), "impression") for study in STUDIES[:1]]
    found = {one.hack: one for one in probe_hacks(build_reward({"domain": 1.0}), cases)}
    assert found["laterality_flip"].verdict == "gains"
    assert "WOULD GAIN" in table(list(found.values()), of_policy=True)
    assert found["empty"].verdict == "loses"


def test_references_are_abnormal_where_that_is_known_and_hold_no_redaction():
    normal = Study("n", "n", "toy", Sections(impression="No acute cardiopulmonary abnormality."), normal=True)
    short = Study("t", "t", "toy", Sections(impression="Mass."), normal=False)
    redacted = Study("x", "x", "toy", Sections(impression="XXXX opacity in the lung."), normal=False)
    unknown = Study("u", "u", "toy", Sections(impression="Large left pleural effusion."))
    ids = [c.study.study_id for c in reference_cases([normal, short, redacted, unknown, STUDIES[0]], "impression", 9)]
    assert ids == ["s0"]
    assert [c.study.study_id for c in reference_cases([normal, short, unknown], "impression", 9)] == ["n", "u"]
    assert len(reference_cases(STUDIES, "report", 2)) == 2
    marked = Study("m", "m", "toy", Sections(findings="XXXX opacity. Clear.", impression="Opacity XXXX."), normal=False)
    nothing = Study("z", "z", "toy", Sections(findings="XXXX", impression="Large left effusion."), normal=False)
    assert [c.candidate for c in reference_cases([marked, nothing], "report", 9)] == [
        "Findings: opacity. Clear.\nImpression: Opacity."
    ]
    with pytest.raises(DataError, match="no report"):
        probe_hacks(build_reward({"rougeL": 1.0}), [])


def test_reports_from_a_file_and_lines_that_cannot_be_used(tmp_path):
    path = tmp_path / "reports.jsonl"
    rows = [
        {"id": 1, "text": "Findings: Clear lungs.\nImpression: Normal.", "patient": "p"},
        {"id": 2, "text": "Large left pleural effusion."},
        {"id": 3, "findings": "Big heart.", "impression": "Cardiomegaly."},
        {"id": 3, "text": "again"},
        {"id": 4},
    ]
    path.write_text("\n".join([json.dumps(row) for row in rows] + ["{"]), encoding="utf-8")
    said: list[str] = []
    found = read_reports(path, said.append)
    assert [(s.study_id, s.patient_id, s.sections.findings, s.sections.impression) for s in found] == [
        ("1", "p", "Clear lungs.", "Normal."),
        ("2", "2", None, "Large left pleural effusion."),
        ("3", "3", "Big heart.", "Cardiomegaly."),
    ]
    assert [line.split(":")[0].rpartition(" ")[2] for line in said] == ["4", "5", "6"]
    assert not any("again" in line.partition("comes again")[2] for line in said)
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="holds no report"):
        read_reports(path, said.append)
