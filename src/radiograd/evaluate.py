"""Predictions of a run -> scores per case -> the summary with intervals, strata and paired differences.

Files in the run folder: reads ``data/pool.jsonl``, ``data/<set>.jsonl`` and ``eval/<set>/predictions.jsonl``; writes
``baselines.jsonl``, ``scores.jsonl`` and ``summary.json`` beside the predictions. The trivial rows are built from the
whole train split, also where limits thin out what the models are trained on. The summary needs neither model nor
texts: :func:`summarise` makes it from the lines of scores.jsonl.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiograd import baselines
from radiograd.config import RunConfig
from radiograd.errors import RunError
from radiograd.metrics import MEAN_PARTS, Array, Metric, beside, load_metric, mean_of, mean_score, prepare, start
from radiograd.rewards import CombinedReward, reward_of, score_cases
from radiograd.runs import Run, read_jsonl, write_json, write_jsonl
from radiograd.stats import bootstrap_counts, holm, interval, paired
from radiograd.text.labels import RuleLabeler
from radiograd.types import POLICIES, Case, Score, Status, Study

log = logging.getLogger(__name__)

REWARD = "reward"
"""Name under which the run's own combined reward stands among the metrics."""

FEWEST = 20
"""Studies that a finding's stratum must hold."""

Texts = Mapping[str, Mapping[str, str]]
"""row -> study id -> text."""


def evaluate_run(run: Run, eval_set: str = "test") -> dict[str, Any]:
    """Score every row of the predictions and the baselines on ``eval_set``; returns a few facts for the log.

    The same run gives the same bytes. Raises ConfigError for an unknown metric, reward term or baseline, RunError when
    a file is missing or the predictions do not cover the set exactly.
    """
    metrics = load_metrics(run.config)
    for name in run.config.evaluate.baselines:
        baselines.check(name)
    pool = read_studies(run.path / "data" / "pool.jsonl")
    studies = read_studies(run.path / "data" / f"{eval_set}.jsonl")
    if not studies:
        raise RunError(
            f"the {eval_set} set of {run.path} holds no study; raise data.split.{eval_set} or give more data"
        )
    prepare_metrics(metrics, run, studies)
    folder = run.path / "eval" / eval_set
    remedy = f"radiograd generate {run.path}" + ("" if eval_set == "test" else f" --set {eval_set}")
    texts = read_predictions(folder / "predictions.jsonl", studies, remedy)
    trivial = {
        name: baselines.build(name, pool, studies, run.config.seed, run.config.task)
        for name in run.config.evaluate.baselines
    }
    clash = texts.keys() & trivial.keys()
    if clash:
        raise RunError(f"{folder / 'predictions.jsonl'}: row {min(clash)!r} has the name of a baseline; rename the row")
    write_jsonl(folder / "baselines.jsonl", _text_rows(trivial))
    rows = in_table_order({**texts, **trivial}, run.config.evaluate.baselines)
    write_jsonl(folder / "scores.jsonl", score_rows(rows, studies, metrics, run.config.section))
    summary = summarise_run(run, eval_set)
    scored = REWARD in metrics
    log.info("%s: %d studies, %d rows, %d metrics", eval_set, len(studies), len(rows), len(metrics))
    return {
        "set": eval_set,
        "studies": len(studies),
        "rows": list(rows),
        "metrics": list(metrics),
        "unscored": sum(entry["unscored"] for row in summary["rows"].values() for entry in row.values()),
        **({REWARD: {row: summary["rows"][row][REWARD]["mean"] for row in POLICIES if row in rows}} if scored else {}),
    }


def summarise_run(run: Run, eval_set: str = "test") -> dict[str, Any]:
    """Make summary.json anew from scores.jsonl, without a model; returns it."""
    folder = run.path / "eval" / eval_set
    metrics, studies = load_metrics(run.config), read_studies(run.path / "data" / f"{eval_set}.jsonl")
    prepare_metrics(metrics, run, studies)
    summary = summarise(
        read_jsonl(folder / "scores.jsonl"),
        studies,
        metrics,
        resamples=run.config.evaluate.resamples,
        seed=run.config.seed,
        eval_set=eval_set,
        section=run.config.section,
        pool=sum(1 for _ in read_jsonl(run.path / "data" / "pool.jsonl")),
    )
    write_json(folder / "summary.json", summary)
    return summary


# ---- what is scored with what ----------------------------------------------------------------------------------------


class RewardMetric:
    """The run's combined reward as a metric: its corpus value is the mean over cases."""

    name = REWARD
    higher_is_better = True
    part_names: tuple[str, ...] = MEAN_PARTS

    def __init__(self, reward: CombinedReward) -> None:
        self._reward = reward
        self.signature = f"{REWARD}|{reward.signature}"

    @property
    def counts_documents(self) -> bool:
        """Whether a term needs :meth:`prepare`."""
        return any(hasattr(term.metric, "prepare") for term in self._reward.terms)

    def prepare(self, references: Sequence[str]) -> None:
        """Hand the references to the terms that count documents."""
        self._reward.prepare(references)
        self.signature = f"{REWARD}|{self._reward.signature}"

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case; unscored when a term is."""
        return [s if s.value is None else mean_score(s.value) for s in self._reward.score(cases)]

    def combine(self, sums: Mapping[str, Array]) -> Array:
        """The mean over scored cases."""
        return mean_of(sums)


def load_metrics(config: RunConfig) -> dict[str, Metric]:
    """Name in the config -> metric, the run's own reward (if it has one) last. Raises ConfigError for what is not
    there."""
    metrics: dict[str, Metric] = {name: load_metric(name) for name in config.evaluate.metrics}
    if config.reward is not None:
        metrics[REWARD] = RewardMetric(reward_of(config, "last"))
    return metrics


def prepare_metrics(metrics: Mapping[str, Metric], run: Run, studies: Sequence[Study]) -> None:
    """Start the programs of metrics that have one, and count documents for those that weigh words: over the set's
    references; for the reward, over train's.
    """
    start(metrics.values())
    section = run.config.section
    prepare((metric for name, metric in metrics.items() if name != REWARD), references(studies, section))
    reward = metrics.get(REWARD)
    if isinstance(reward, RewardMetric) and reward.counts_documents:
        prepare([reward], references(read_studies(run.path / "data" / "train.jsonl"), section))


def references(studies: Sequence[Study], section: str) -> list[str]:
    """The texts that predictions are held against, as far as there are any."""
    return [text for study in studies if (text := study.sections.text(section))]


def read_studies(path: Path) -> list[Study]:
    """The studies of one split. Raises RunError when the file is missing, damaged or names a study twice."""
    studies: dict[str, Study] = {}
    for number, row in enumerate(read_jsonl(path), 1):
        try:
            study = Study.from_json(row)
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{path}:{number} is not a study ({type(error).__name__}); run the data step again"
            ) from None
        if study.study_id in studies:
            raise RunError(f"{path}:{number}: study {study.study_id} stands there twice; run the data step again")
        studies[study.study_id] = study
    return list(studies.values())


def read_predictions(path: Path, studies: Sequence[Study], remedy: str) -> dict[str, dict[str, str]]:
    """row -> study id -> text. Every row must hold every study once and no other: else RunError with the counts.

    ``remedy`` is the command that writes the file.
    """
    texts: dict[str, dict[str, str]] = {}
    for number, line in enumerate(read_jsonl(path), 1):
        if not all(isinstance(line.get(key), str) for key in ("study_id", "row", "text")):
            raise RunError(f"{path}:{number} lacks one of study_id, row, text; delete the file and run: {remedy}")
        row = texts.setdefault(line["row"], {})
        if line["study_id"] in row:
            raise RunError(f"{path}:{number}: row {line['row']!r} has study {line['study_id']} twice; delete one line")
        row[line["study_id"]] = line["text"]
    if not texts:
        raise RunError(f"{path} holds no prediction; run: {remedy}")
    known = {study.study_id for study in studies}
    for row_name, row in texts.items():
        missing, unknown = known - row.keys(), row.keys() - known
        if missing or unknown:
            raise RunError(
                f"{path}: row {row_name!r} does not cover the set: {len(missing)} missing, {len(unknown)} unknown "
                f"(first: {min(missing | unknown)}). Run: {remedy}"
            )
    return texts


def in_table_order(texts: Texts, trivial: Sequence[str]) -> dict[str, Mapping[str, str]]:
    """The policies' rows first, then the baselines, then any other row by name."""
    rank = {name: i for i, name in enumerate((*POLICIES, *trivial))}
    return {row: texts[row] for row in sorted(texts, key=lambda row: (rank.get(row, len(rank)), row))}


def score_rows(
    texts: Texts, studies: Sequence[Study], metrics: Mapping[str, Metric], section: str = "impression"
) -> list[dict[str, Any]]:
    """The lines of scores.jsonl: one per row and study with scores, parts and, where unscored, the reason.

    ``section``: what the texts are held against.
    """
    lines = []
    for row, by_study in texts.items():
        cases = [Case(study, by_study[study.study_id], section) for study in studies]
        by_metric = {name: score_cases(f"metric {name!r}", metric.score, cases) for name, metric in metrics.items()}
        for i, study in enumerate(studies):
            scores = {name: column[i] for name, column in by_metric.items()}
            lines.append(
                {
                    "study_id": study.study_id,
                    "row": row,
                    "scores": {name: score.value for name, score in scores.items()},
                    "parts": {name: dict(score.parts) for name, score in scores.items() if score.value is not None},
                    "why": {name: score.why for name, score in scores.items() if score.why is not None},
                }
            )
    return lines


def _text_rows(texts: Texts) -> list[dict[str, str]]:
    return [
        {"study_id": study_id, "row": row, "text": text}
        for row, by_study in texts.items()
        for study_id, text in by_study.items()
    ]


# ---- the summary -----------------------------------------------------------------------------------------------------


def summarise(
    score_lines: Iterable[Mapping[str, Any]],
    studies: Sequence[Study],
    metrics: Mapping[str, Metric],
    *,
    resamples: int,
    seed: int,
    eval_set: str = "test",
    section: str = "impression",
    pool: int | None = None,
    level: float = 0.95,
) -> dict[str, Any]:
    """summary.json from the lines of scores.jsonl. Pure; no NaN in it: what is unknown is None.

    Of ``studies`` ids, patients, ``normal`` and references are used; of ``metrics`` only ``combine``, part names,
    direction and signature. ``pool``: how many train studies the trivial rows were built from. Rows keep the order in
    which they first stand in ``score_lines``. Each stratum is resampled by its own patients, all its rows and metrics
    on the same resamples. Besides all, normal and abnormal there is one for each finding that enough references call
    present ("finding: Cardiomegaly"); differences between rows are not taken there.
    """
    place = {study.study_id: i for i, study in enumerate(studies)}
    parts = _parts(score_lines, place, metrics)
    pairs = compared_rows(list(parts))
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    differences: list[dict[str, Any]] = []
    kinds = strata(studies)
    for number, (stratum, members) in enumerate((kinds | by_finding(studies, section)).items()):
        if not len(members):
            continue
        rng = np.random.default_rng([seed, number])
        patients = [studies[i].patient_id for i in members]
        counts = bootstrap_counts(patients, resamples, rng).astype(np.float64)
        inside = {
            row: {name: {part: column[members] for part, column in columns.items()} for name, columns in named.items()}
            for row, named in parts.items()
        }
        tables[stratum] = {
            row: {name: _entry(metrics[name], columns, counts, level) for name, columns in named.items()}
            for row, named in inside.items()
        }
        for a, b in pairs if stratum in kinds else ():
            start = len(differences)
            for name, metric in metrics.items():
                found = asdict(paired(inside[a][name], inside[b][name], metric.combine, counts, level))
                differences.append(
                    {
                        "a": a,
                        "b": b,
                        "metric": name,
                        "stratum": stratum,
                        "higher_is_better": metric.higher_is_better,
                        **found,
                    }
                )
            _correct(differences[start:])
    return {
        "set": eval_set,
        "section": section,
        "counts": {
            "studies": len(studies),
            "patients": len({study.patient_id for study in studies}),
            "normal": sum(study.normal is True for study in studies),
            "abnormal": sum(study.normal is False for study in studies),
            "unknown": sum(study.normal is None for study in studies),
            "pool": pool,
        },
        "bootstrap": {"by": "patient", "resamples": resamples, "level": level, "seed": seed},
        "rows": tables.pop("all", {}),
        "strata": tables,
        "paired": differences,
    }


def strata(studies: Sequence[Study]) -> dict[str, NDArray[np.intp]]:
    """Stratum -> places of its studies. Studies whose source does not say are in ``all`` only; of several sites each
    is a stratum ("site: NAME")."""
    normal = [study.normal for study in studies]
    sites = sorted({study.site for study in studies if study.site is not None})
    return {
        "all": np.arange(len(studies)),
        "normal": np.flatnonzero([n is True for n in normal]),
        "abnormal": np.flatnonzero([n is False for n in normal]),
        **{f"site: {name}": np.flatnonzero([s.site == name for s in studies]) for name in sites if len(sites) > 1},
    }


def by_finding(studies: Sequence[Study], section: str = "impression") -> dict[str, NDArray[np.intp]]:
    """ "finding: NAME" -> places of the studies whose reference calls it present, by our rules; CheXpert's labels.

    Left out: findings with fewer than ``FEWEST`` such studies.
    """
    read = RuleLabeler("chexpert14")
    found = read([study.sections.text(section) or "" for study in studies])
    places = {
        f"finding: {name}": np.array([i for i, one in enumerate(found) if one[name] is Status.PRESENT], dtype=np.intp)
        for name in read.labels.labels
    }
    return {name: members for name, members in places.items() if len(members) >= FEWEST}


def compared_rows(rows: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs (a, b) to be compared: aligned with sft, then each policy with every row that is none."""
    pairs = [("aligned", "sft")] if {"aligned", "sft"} <= set(rows) else []
    policies = [row for row in POLICIES if row in rows]
    return pairs + [(policy, row) for policy in policies for row in rows if row not in POLICIES]


def _entry(metric: Metric, columns: Mapping[str, Array], counts: Array, level: float) -> dict[str, Any]:
    found = interval(columns, metric.combine, counts, level)
    return {
        "mean": found.value,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "unscored": found.unscored,
        "higher_is_better": metric.higher_is_better,
        "signature": metric.signature,
        **beside(metric, found.value),
    }


def _correct(rows: Sequence[dict[str, Any]]) -> None:
    """Add ``p_holm``: p corrected for the number of metrics compared between two rows of one stratum (Holm 1979)."""
    tested = [row for row in rows if row["p"] is not None]
    adjusted = iter(holm([row["p"] for row in tested]))
    for row in rows:
        row["p_holm"] = None if row["p"] is None else next(adjusted)


def _parts(
    score_lines: Iterable[Mapping[str, Any]], place: Mapping[str, int], metrics: Mapping[str, Metric]
) -> dict[str, dict[str, dict[str, Array]]]:
    """row -> metric -> part -> (n,) in the order of the studies; NaN = unscored. RunError unless every row is whole."""
    parts: dict[str, dict[str, dict[str, Array]]] = {}
    seen: dict[str, set[str]] = {}
    for line in score_lines:
        row, study_id = line["row"], line["study_id"]
        if row not in parts:
            seen[row] = set()
            parts[row] = {
                name: {part: np.full(len(place), np.nan) for part in metric.part_names}
                for name, metric in metrics.items()
            }
        if study_id not in place:
            raise RunError(f"scores of row {row!r} name study {study_id}, which is not in the set; evaluate again")
        seen[row].add(study_id)
        for name, metric in metrics.items():
            if name not in line["scores"]:
                raise RunError(f"scores of row {row!r}, study {study_id} lack metric {name!r}; evaluate again")
            if line["scores"][name] is None:
                continue
            found = line["parts"].get(name, {})
            for part in metric.part_names:
                if part not in found:
                    raise RunError(f"metric {name!r}: the score of study {study_id} has no part {part!r}")
                parts[row][name][part][place[study_id]] = found[part]
    for row, studied in seen.items():
        if len(studied) < len(place):
            raise RunError(f"scores of row {row!r} miss {len(place) - len(studied)} studies; evaluate again")
    return parts
