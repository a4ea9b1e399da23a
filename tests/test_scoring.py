"""Score lines and summaries: by hand, batch by batch, with metrics that fail, look ahead or know of conventions."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from radiograd import scoring
from radiograd.errors import ConfigError, RunError, UsageError
from radiograd.formats import STDIN, Record
from radiograd.metrics import MEAN_PARTS, load_metric, mean_of, mean_score
from radiograd.scorefile import done_lines, meta_path, open_scores
from radiograd.scoring import Entry, Plan, References, arriving, batched, digest, plan, score_stream, summarise
from radiograd.stats import bootstrap_counts, interval
from radiograd.types import Problem, Score

RECORDS = [
    Record(1, "No acute disease.", "No disease.", patient="p"),
    Record("b", None, "Normal."),
    Record(3, "Small left effusion.", ""),
    Record(4, "Clear lungs.", "Clear lungs.", patient="p", normal=True),
]


class Halves:
    """Value .5 for everything; fails on the candidate 'boom', answers 'odd' by a reason, 'inf' by infinity."""

    name, higher_is_better, signature, part_names = "halves", True, "halves|test", MEAN_PARTS

    def __init__(self, value=0.5):
        self.value = value
        self.signature = f"halves|{value}"

    def score(self, cases):
        if any(case.candidate == "boom" for case in cases):
            raise RuntimeError("the text itself must not be shown: boom")
        if any(case.candidate == "usage" for case in cases):
            raise UsageError("name a file")
        return [self._one(case.candidate) for case in cases]

    def _one(self, candidate):
        if candidate == "odd":
            return Score(None, why="odd")
        return mean_score(float("inf") if candidate == "inf" else self.value)

    def combine(self, sums):
        return mean_of(sums)

    def with_convention(self, name):
        return Halves({"coco": 0.25}.get(name, 0.75))


class Ahead(Halves):
    """The share of references that the reference is one of."""

    seen = None

    def prepare(self, references):
        self.seen = list(references)
        assert len(references) == len(self.seen) == len(list(references))

    def score(self, cases):
        if self.seen is None:
            raise UsageError("prepare first")
        return [mean_score(self.seen.count(case.reference) / len(self.seen)) for case in cases]


def chosen(*metrics):
    return Plan({Entry(m.name, f"{__name__}:{type(m).__name__}"): m for m in metrics})


def run(records, made, **options):
    sink, said = io.BytesIO(), []
    totals = score_stream(batched(records), made, sink, said.append, **options)
    return [json.loads(line) for line in sink.getvalue().splitlines()], totals, said


# ---- lines


def test_each_case_gets_a_line_and_a_missing_reference_a_reason():
    lines, totals, said = run(RECORDS, plan(["rougeL", "bleu1"]))
    assert [line["id"] for line in lines] == [1, "b", 3, 4]
    assert all(set(line) == {"id", "scores", "why"} for line in lines)
    # "no acute disease" against "no disease": 2 shared words, P 1, R 2/3, F1 .8
    assert lines[0]["scores"]["rougeL"] == pytest.approx(0.8)
    assert lines[1]["scores"] == {"rougeL": None, "bleu1": None}
    assert set(lines[1]["why"]) == {"rougeL", "bleu1"}
    assert lines[2]["scores"] == {"rougeL": 0.0, "bleu1": 0.0}
    assert lines[3]["scores"] == {"rougeL": 1.0, "bleu1": 1.0}
    assert (totals.cases, totals.problems, totals.tallies, said) == (4, 0, None, [])


def test_a_case_without_candidate_is_passed_over_and_named():
    lines, totals, said = run([*RECORDS, Record("x", "Clear."), Problem("f:9", "bad")], plan(["rougeL"]))
    assert len(lines) == 4
    assert (totals.cases, totals.problems) == (4, 2)
    assert said == [Problem("case x", "has no candidate to score"), Problem("f:9", "bad")]


def test_scores_depend_neither_on_the_batches_nor_on_the_number_of_processes(monkeypatch):
    records = [Record(k, f"Nodule {k % 7} and effusion.", f"Nodule {k % 5}.") for k in range(700)]
    made = plan(["rougeL", "bleu2"])
    whole, *_ = run(records, made, with_parts=True)
    assert run(records, made, with_parts=True, jobs=2)[0] == whole
    monkeypatch.setattr(scoring, "BATCH", 3)
    assert run(records, made, with_parts=True)[0] == whole


def test_parts_digest_patient_and_stratum_stand_in_the_line_when_asked_for():
    lines, *_ = run(RECORDS, plan(["rougeL"]), with_parts=True)
    assert lines[0]["parts"] == {"rougeL": {"sum": lines[0]["scores"]["rougeL"], "n": 1.0}}
    assert lines[1]["parts"] == {}
    assert (lines[0]["patient"], "patient" in lines[1], lines[3]["normal"]) == ("p", False, True)
    assert lines[0]["digest"] == digest(RECORDS[0])


def test_a_digest_tells_reference_and_candidate_apart():
    one, other = digest(Record(1, "a", "b")), digest(Record(1, "a", "c"))
    assert (one[:8] == other[:8], one[8:] == other[8:], len(one)) == (True, False, 16)
    assert digest(Record(1, "a", "b", findings="f"))[:8] != one[:8]


# ---- metrics that fail


def test_a_case_that_a_metric_fails_on_is_unscored_and_its_neighbours_are_not():
    records = [Record(k, "x", c) for k, c in enumerate(["fine", "boom", "odd", "inf", "fine"])]
    lines, totals, _ = run(records, chosen(Halves()), tallied=True)
    assert [line["scores"]["halves"] for line in lines] == [0.5, None, None, None, 0.5]
    why = [line["why"].get("halves") for line in lines[1:4]]
    assert why == [f"{__name__}:Halves failed with RuntimeError", "odd", "not a finite number"]
    entry = summarise(totals, chosen(Halves()))["metrics"]["halves"]
    assert (entry["mean"], entry["n"], entry["unscored"]) == (0.5, 2, 3)


def test_an_error_about_the_command_ends_it():
    with pytest.raises(UsageError, match="name a file"):
        run([Record(1, "x", "usage")], chosen(Halves()))


def test_a_score_without_its_parts_is_an_error_that_names_the_metric():
    class Bare(Halves):
        def score(self, cases):
            return [Score(1.0)]

    made = Plan({Entry("bare", "bare"): Bare()})
    made.metrics[next(iter(made.metrics))].prepare = lambda references: None  # so that this very object scores
    with pytest.raises(ConfigError, match="'bare': a score has no part 'sum'"):
        run([Record(1, "x", "y")], made)


# ---- which metrics, by which convention


def test_unknown_metrics_and_conventions_are_named_with_the_nearest_one():
    with pytest.raises(ConfigError, match="Did you mean 'rougeL'"):
        plan(["rougeLL"])
    with pytest.raises(ConfigError, match="Did you mean 'coco'"):
        plan(["rougeL"], "cocoo")
    with pytest.raises(ConfigError, match="named twice"):
        plan(["rougeL", "bleu1", "rougeL"])


def test_a_metric_that_knows_of_no_convention_says_so_once():
    made = plan(["length_ratio", f"{__name__}:Halves"], "coco")
    assert made.notes == ["length_ratio: the same under every convention, so computed as ours"]
    lines, *_ = run([Record(1, "a", "b")], made)
    assert lines[0]["scores"] == {"length_ratio": 1.0, f"{__name__}:Halves": 0.25}


def test_all_conventions_are_computed_in_one_pass():
    name = f"{__name__}:Halves"
    made = scoring.plan_all(["length_ratio", name])
    _, totals, _ = run([Record(1, "a", "b")], made, tallied=True)
    table = scoring.by_convention(summarise(totals, made), made)
    assert list(table) == ["ours", "rexrank", "r2gen", "coco", "radeval"]
    assert {c: entries[name]["mean"] for c, entries in table.items()} == {
        "ours": 0.5,
        "rexrank": 0.75,
        "r2gen": 0.75,
        "coco": 0.25,
        "radeval": 0.75,
    }
    assert table["coco"]["length_ratio"] == table["ours"]["length_ratio"]


def test_the_default_metrics_are_there_and_need_no_weights():
    names = scoring.default_metrics()
    assert {"bleu1", "bleu4", "rouge1", "rougeL", "length_ratio"} <= set(names)
    assert all(load_metric(name).name == name for name in names)


# ---- metrics that look ahead


def test_a_metric_that_looks_ahead_sees_every_reference_first_also_in_other_processes():
    records = [Record(k, "ab"[k % 2], "x") for k in range(300)] + [Record("n", None, "x")]
    made = chosen(Ahead())
    made.prepare(References(lambda: records))
    lines, *_ = run(records[:2], made)
    assert [line["scores"]["halves"] for line in lines] == [0.5, 0.5]
    assert run(records[:300], made, jobs=2)[0] == run(records[:300], made)[0]


def test_references_are_a_sequence_that_is_read_anew():
    texts = References(lambda: [Record(1, "a"), Problem("x", "y"), Record(2, None), Record(3, "b")])
    assert (len(texts), list(texts), texts[0], texts[-1], texts[:1]) == (2, ["a", "b"], "a", "b", ["a"])
    with pytest.raises(IndexError):
        texts[2]
    assert texts.digest != References(lambda: [Record(1, "ab")]).digest


# ---- lines as they come


class Drip(io.RawIOBase):
    """Gives one piece a read, as a pipe does whose other end writes line by line."""

    def __init__(self, pieces):
        self.pieces = list(pieces)
        self.asked = 0

    def read1(self, size):
        self.asked += 1
        return self.pieces.pop(0) if self.pieces else b""


def test_a_case_is_handed_on_as_soon_as_its_line_is_whole():
    line = b'{"id": %d, "reference": "a", "candidate": "b"}\n'
    source = Drip([line % 1, (line % 2)[:9], (line % 2)[9:] + b"nonsense\n" + (line % 4)[:-1]])
    batches = arriving(source, STDIN)
    assert [record.id for record in next(batches)] == [1]
    assert source.asked == 1
    second = next(batches)
    assert (second[0].id, second[1].where) == (2, "line 3")
    assert [record.id for record in next(batches)] == [4]
    assert next(batches, None) is None


def test_a_line_to_be_scored_needs_reference_and_candidate():
    lines = [{"id": 1, "candidate": "x"}, {"id": 2, "reference": "x"}, {"id": 3, "reference": None, "candidate": None}]
    source = io.BytesIO("".join(json.dumps(line) + "\n" for line in lines).encode())
    [batch] = arriving(source, Path("f"))
    assert [item.where for item in batch] == ["f:1", "f:2", "f:3"]
    assert "has no 'reference'" in batch[0].why


# ---- the summary


def test_the_summary_equals_the_statistics_of_all_cases_at_once():
    made = plan(["bleu2", "rougeL"])
    records = [Record(k, f"Nodule {k % 7} and effusion.", f"Nodule {k % 5}.", patient=f"{k // 2}") for k in range(60)]
    lines, totals, _ = run([*records, Record("n", None, "x")], made, with_parts=True, tallied=True)
    summary = summarise(totals, made, resamples=200)
    assert (summary["cases"], summary["patients"]) == (61, 31)
    for name in ("bleu2", "rougeL"):
        metric = load_metric(name)
        parts = {p: np.array([line["parts"].get(name, {}).get(p, np.nan) for line in lines]) for p in metric.part_names}
        patients = [line.get("patient", "none") for line in lines]
        whole = interval(parts, metric.combine, bootstrap_counts(patients, 200, np.random.default_rng(7)))
        entry = summary["metrics"][name]
        assert entry["mean"] == pytest.approx(whole.value)
        assert entry["signature"] == metric.signature
        assert (entry["n"], entry["unscored"]) == (60, 1)
        # other patients' numbers, so other draws: about as wide
        assert entry["low"] < whole.value < entry["high"]
        assert entry["high"] - entry["low"] == pytest.approx(whole.high - whole.low, rel=0.5)


# ---- files of scores


def scored(path, records, made, *, resume=False, **options):
    file, size = open_scores(path, scoring.meta(made), resume)
    with file:
        done = done_lines(path, size)
        return score_stream(batched(records), made, file, print, with_parts=True, done=done, **options)


@pytest.mark.parametrize("keep", [0, 1, 40, 150, 151, 300, 450, 10**6])
def test_a_file_cut_off_anywhere_ends_with_the_same_bytes(tmp_path, keep):
    made = plan(["rougeL", "bleu1"])
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    first = scored(whole, RECORDS, made, tallied=True)
    scored(cut, RECORDS, made)
    cut.write_bytes(whole.read_bytes()[:keep])
    again = scored(cut, RECORDS, made, resume=True, tallied=True)
    assert cut.read_bytes() == whole.read_bytes()
    assert again.resumed == whole.read_bytes()[:keep].count(b"\n")
    assert summarise(again, made) == summarise(first, made)


def test_a_file_of_scores_is_not_written_over_and_not_mixed(tmp_path):
    path, made = tmp_path / "scores.jsonl", plan(["rougeL"])
    scored(path, RECORDS, made)
    with pytest.raises(RunError, match="--resume, or delete"):
        scored(path, RECORDS, made)
    with pytest.raises(RunError, match="'bleu1' differs"):
        scored(path, RECORDS, plan(["rougeL", "bleu1"]), resume=True)
    with pytest.raises(RunError, match="case 2 of the input is z, but in the file of scores it is case b"):
        scored(path, [RECORDS[0], Record("z", None, "Normal.")], made, resume=True)
    with pytest.raises(RunError, match="has other texts"):
        scored(path, [Record(1, "No acute disease.", "Changed.")], made, resume=True)
    with pytest.raises(RunError, match="more cases than the 1 that came in"):
        scored(path, RECORDS[:1], made, resume=True)
    path.write_bytes(b"[1]\n")
    with pytest.raises(RunError, match=r"scores.jsonl:1 is no line of scores"):
        scored(path, RECORDS, made, resume=True)
    meta_path(path).unlink()
    with pytest.raises(RunError, match="is no file of scores"):
        scored(path, RECORDS, made, resume=True)


def test_longer_input_goes_on_after_what_was_scored_before(tmp_path):
    path, whole, made = tmp_path / "s", tmp_path / "w", plan(["rougeL"])
    scored(path, RECORDS[:2], made)
    assert scored(path, RECORDS, made, resume=True).resumed == 2
    scored(whole, RECORDS, made)
    assert path.read_bytes() == whole.read_bytes()


# ---- whole reports


def test_whole_reports_are_cut_on_both_sides():
    reference = "INDICATION: cough.\nFINDINGS: Small left effusion.\nIMPRESSION: Effusion."
    made = plan(["report_format", "rouge1", "impression/rouge1", "findings/rouge1"])
    made.section = "report"
    records = [
        Record(1, reference, "Findings: Small left effusion.\nImpression: Normal."),
        Record(2, reference, "Effusion."),
        Record(3, "Effusion.", "Findings: Effusion.\nImpression: Effusion."),
    ]
    lines, *_ = run(records, made)
    # whole: findings small left effusion impression effusion | ... normal: 5 of 6 + 6; the indication is no part of it
    assert lines[0]["scores"] == {
        "report_format": 1.0,
        "rouge1": pytest.approx(2 * 5 / 12),
        "impression/rouge1": 0.0,
        "findings/rouge1": 1.0,
    }
    assert lines[1]["scores"] == {
        "report_format": 0.0,
        "rouge1": pytest.approx(2 / 7),
        "impression/rouge1": 0.0,
        "findings/rouge1": 0.0,
    }
    assert set(lines[2]["scores"].values()) == {None}
    assert lines[2]["why"]["rouge1"] == "the case has no reference that can be cut into findings and impression"
    assert lines[2]["why"]["findings/rouge1"] == "the case has no reference"


def test_a_file_of_scores_says_when_its_texts_were_no_impressions():
    made = plan(["rougeL"])
    assert "section" not in scoring.meta(made)
    made.section = "report"
    assert scoring.meta(made)["section"] == "report"
