"""Which reference reports are critical: asked once, before training, and kept with the studies (RadFlow, CAPO).

Three answers to one question (``criticality.source`` says which one counts): a judge's to the paper's own question, our
rules' labels, and a list of findings that cannot wait. The free ones are computed whatever is chosen, so that it can be
seen how far they agree. Writes ``criticality.jsonl`` and ``criticality_summary.json``; a judge's answers are kept in
``criticality/answers.jsonl`` as they come.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np

from radiograd.config import RunConfig
from radiograd.errors import JudgeError
from radiograd.judges.builtin import load_judge
from radiograd.judges.counting import MOST_UNSCORED, NAMED
from radiograd.judges.protocol import Judge, Question
from radiograd.runs import Run, append_jsonl, is_terminal, read_jsonl, write_json, write_jsonl
from radiograd.stats import AGREEMENT_PARTS, agreement_parts, cohens_kappa, estimate, raw_agreement, resampled_sums
from radiograd.studies import CRITICALITY, left_to_alignment, read_split
from radiograd.text.labels import RuleLabeler
from radiograd.text.lexicon import fingerprint
from radiograd.text.urgent import signature as urgent_signature
from radiograd.text.urgent import urgent
from radiograd.types import Status, Study

AT_ONCE: Final = 32
"""Reports a judge is asked about at a time; a killed program asks at most these again."""
LABELS: Final = "chexpert14"
CODES: Final = "codes"
"""What the source itself says: coded as anything but normal. Never chosen, only compared."""

Answers = Mapping[str, Sequence[bool | None]]
"""Source -> one answer for each study, in order; None = not known."""


def annotate_run(run: Run) -> dict[str, Any]:
    """Annotate every study that alignment may use; what the stage records.

    Raises what load_judge does, and JudgeError when the judge leaves more than a fifth of the reports unanswered.
    """
    config = run.config.criticality
    run.facts("data")
    studies = left_to_alignment(run.config, read_split(run, "train"))
    texts = [reference_report(study) for study in studies]
    found = [urgent(text) for text in texts]
    answers: dict[str, list[bool | None]] = {"labels": list(by_labels(texts)), "urgent_list": [bool(f) for f in found]}
    signatures = {"labels": f"labels|set={LABELS}|{fingerprint()}", "urgent_list": urgent_signature()}
    whys: list[str | None] = [None] * len(studies)
    if config.source == "judge" or config.judge == "rules":
        judge = load_judge_of(run.config)
        signatures = {"judge": judge.signature, **signatures}
        said = ask(judge, studies, texts, run.path / "criticality" / "answers.jsonl")
        answers = {"judge": [value for value, _ in said], **answers}
        whys = [why for _, why in said]
    rows = [
        {
            "study_id": study.study_id,
            "critical": answers[config.source][place],
            "source": config.source,
            "judge": answers["judge"][place] if "judge" in answers else None,
            "judge_why": whys[place],
            "labels": answers["labels"][place],
            "urgent": answers["urgent_list"][place],
            "urgent_findings": list(found[place]),
        }
        for place, study in enumerate(studies)
    ]
    write_jsonl(run.path / CRITICALITY, rows)
    summary = summarise(answers, studies, config.source, run.config.evaluate.resamples, run.config.seed)
    summary["signatures"] = signatures
    summary["judge_unanswered"] = dict(Counter(why for why in whys if why is not None).most_common())
    summary["urgent_findings"] = dict(Counter(name for names in found for name in names).most_common())
    write_json(run.path / "criticality_summary.json", summary)
    chosen = summary["sources"][config.source]
    return {
        "studies": len(studies),
        "source": config.source,
        "critical": chosen["critical"],
        "critical_share": chosen["share"],
        "unanswered": chosen["unanswered"],
        "agreement": {_pair(row): row["agreement"]["value"] for row in summary["agreement"]},
        "kappa": {_pair(row): row["kappa"]["value"] for row in summary["agreement"]},
        "signature": signatures[config.source],
    }


def load_judge_of(config: RunConfig) -> Judge:
    """The judge of a run's annotation. All reports but the public ones that we fetch are taken for credentialed."""
    asked = config.criticality
    return load_judge(asked.judge, asked.judge_options, credentialed=not config.data.public)


def reference_report(study: Study) -> str:
    """Findings and impression of the radiologist under their headers; what there is of them where one is missing."""
    whole = study.sections.report
    if whole is not None:
        return whole
    said = {"Findings": study.sections.findings, "Impression": study.sections.impression}
    return "\n".join(f"{name}: {text.strip()}" for name, text in said.items() if text is not None)


def by_labels(texts: Sequence[str]) -> list[bool]:
    """Whether our rules state anything as present or uncertain: "No Finding" of the 14 labels is not present.

    Support devices alone do not count, pathology outside the fourteen does (text/lexicon/sets.yaml).
    """
    return [labels["No Finding"] is not Status.PRESENT for labels in RuleLabeler(LABELS)(texts)]


# ---- the judge -------------------------------------------------------------------------------------------------------


def ask(
    judge: Judge, studies: Sequence[Study], texts: Sequence[str], path: Path
) -> list[tuple[bool | None, str | None]]:
    """(answer, why there is none) for each study: is its whole reference report critical?

    Answers are appended to ``path`` as they come and kept when the program is killed; unanswered ones are asked again
    next time. Raises JudgeError as soon as more than a fifth of the studies cannot be answered any more: what is left
    would be no fair sample.
    """
    from tqdm import tqdm

    keys = {study.study_id: _key(judge, text) for study, text in zip(studies, texts, strict=True)}
    kept = {
        row["study_id"]: row
        for row in (read_jsonl(path) if path.exists() else ())
        if keys.get(row["study_id"]) == row["of"] and row["value"] is not None
    }
    write_jsonl(path, list(kept.values()))
    todo = [(s, text) for s, text in zip(studies, texts, strict=True) if s.study_id not in kept]
    for first in tqdm(range(0, len(todo), AT_ONCE), desc="critical", disable=not is_terminal(), unit="batch"):
        batch = todo[first : first + AT_ONCE]
        verdicts = judge.critical([Question(study.study_id, text) for study, text in batch])
        rows = [
            {
                "study_id": study.study_id,
                "of": keys[study.study_id],
                "value": verdict.value,
                "why": verdict.why,
                "rationale": verdict.rationale,
                "prompt_hash": verdict.prompt_hash,
            }
            for (study, _), verdict in zip(batch, verdicts, strict=True)
        ]
        append_jsonl(path, rows)
        kept.update({row["study_id"]: row for row in rows})
        _refuse_unanswered(list(kept.values()), len(studies))
    return [(kept[study.study_id]["value"], kept[study.study_id]["why"]) for study in studies]


def _key(judge: Judge, text: str) -> str:
    seen = json.dumps([judge.signature, text], ensure_ascii=False)
    return hashlib.sha256(seen.encode("utf-8", "replace")).hexdigest()[:16]


def _refuse_unanswered(rows: Sequence[Mapping[str, Any]], of: int) -> None:
    whys = Counter(row["why"] for row in rows if row["value"] is None)
    if whys.total() > MOST_UNSCORED * of:
        named = "; ".join(f"{count} x {why}" for why, count in whys.most_common(NAMED))
        raise JudgeError(
            f"the judge left {whys.total()} reports unanswered, of {len(rows)} asked and {of} in all; more than "
            f"{MOST_UNSCORED:.0%} would be no fair sample: {named}"
        )


# ---- how far the sources agree ---------------------------------------------------------------------------------------


def summarise(answers: Answers, studies: Sequence[Study], source: str, resamples: int, seed: int) -> dict[str, Any]:
    """Counts of each source, and for every two their 2 x 2 table, raw agreement and Cohen's kappa with 95 % intervals.

    Over the studies that both answered; resampled by patient. The source's own codes (``Study.normal``) are one more
    to compare with, where there are any.
    """
    coded = [None if study.normal is None else not study.normal for study in studies]
    compared = {**answers, **({CODES: coded} if any(code is not None for code in coded) else {})}
    return {
        "studies": len(studies),
        "source": source,
        "sources": {name: _counts(values) for name, values in compared.items()},
        "agreement": [
            _agreement(a, b, compared[a], compared[b], studies, resamples, seed) for a, b in combinations(compared, 2)
        ],
    }


def _counts(values: Sequence[bool | None]) -> dict[str, Any]:
    answered = [value for value in values if value is not None]
    critical = sum(answered)
    return {
        "answered": len(answered),
        "unanswered": len(values) - len(answered),
        "critical": critical,
        "share": critical / len(answered) if answered else None,
    }


def _agreement(
    a: str,
    b: str,
    first: Sequence[bool | None],
    second: Sequence[bool | None],
    studies: Sequence[Study],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    both = [k for k in range(len(studies)) if first[k] is not None and second[k] is not None]
    parts = agreement_parts([bool(first[k]) for k in both], [bool(second[k]) for k in both])
    told: dict[str, Any] = {"a": a, "b": b, "n": len(both), **{name: int(parts[name].sum()) for name in parts}}
    if not both:
        unknown = {"value": None, "low": None, "high": None}
        return {**told, "agreement": unknown, "kappa": unknown}
    columns = [parts[name] for name in AGREEMENT_PARTS]
    patients = np.unique([studies[k].patient_id for k in both], return_inverse=True)[1]
    sums = np.array([column.sum() for column in columns])
    resampled = resampled_sums(columns, patients, resamples, np.random.default_rng(seed))
    for name, combine in (("agreement", raw_agreement), ("kappa", cohens_kappa)):
        found = asdict(estimate(AGREEMENT_PARTS, sums, resampled, combine, len(both), 0))
        told[name] = {key: found[key] for key in ("value", "low", "high")}
    return told


def _pair(row: Mapping[str, Any]) -> str:
    return f"{row['a']} and {row['b']}"
