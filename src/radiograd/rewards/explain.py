"""Why a text has the reward it has, and which sentence would change it: one case at a time.

Evidence is what each term rests on (facts, labels, the judge's words, shared runs of words). Changes are tried, not
guessed: every sentence of the candidate left out or replaced by the nearest reference sentence, every reference
sentence added, and the whole reward computed anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from radiograd.errors import DataError
from radiograd.metrics import MEAN_PARTS, load_metric
from radiograd.metrics.bleu import LARGEST, Bleu, pair_counts
from radiograd.metrics.factgraph import Factgraph, facts_of
from radiograd.metrics.label_f1 import LabelF1
from radiograd.metrics.of_section import OfSection
from radiograd.metrics.rouge import RougeL, longest_common_subsequence, tokens
from radiograd.rewards.engine import CombinedReward, Term
from radiograd.rewards.terms import Consistent, Domain, ImpressionF1, Syntax
from radiograd.tables import UNKNOWN, hundredfold, text
from radiograd.text.generated import cut
from radiograd.text.graph_f1 import Level
from radiograd.text.sections import parse
from radiograd.text.sentences import sentence_spans
from radiograd.types import REPORT, Case, Score

TOP: Final = 10
"""Changes that are shown."""
_PARTS: Final = ("findings", "impression")
_SAID: Final = {"ANAT-DP": "", "OBS-DP": "", "OBS-U": " (uncertain)", "OBS-DA": " (absent)"}


@dataclass(frozen=True, slots=True)
class Change:
    """One sentence done otherwise. ``kind``: drop, add or replace; ``by``: what comes instead, or is added.

    ``total`` and ``terms`` are differences to the candidate as it is; None where either side has no value.
    """

    kind: str
    section: str
    sentence: str | None
    by: str | None
    text: str
    total: float | None = None
    terms: Mapping[str, float | None] | None = None


def explain(reward: CombinedReward, case: Case) -> dict[str, Any]:
    """All that is known of the reward of one case, as JSON: its terms with their evidence, and changes, best first.

    Holds report text. Every change asks the judge of ``consistent`` once more. Raises DataError without a reference,
    and ScoringError as the reward raises it.
    """
    if case.reference is None:
        raise DataError(f"study {case.study.study_id} has no {case.section} to hold a candidate against")
    changes = list(_changes(case))
    table = reward.collect(reward.begin([case, *(replace(case, candidate=change.text) for change in changes)]))
    score = table.scores[0]
    names = [term.name for term in reward.terms]
    done = []
    for place, change in enumerate(changes, start=1):
        by_term = {
            name: _difference(after, before)
            for name, after, before in zip(names, table.values_B_K[place], table.values_B_K[0], strict=True)
        }
        after = table.scores[place].value
        total = None if after is None or score.value is None else after - score.value
        done.append(replace(change, total=total, terms=by_term))
    return {
        "study": case.study.study_id,
        "section": case.section,
        "signature": reward.signature,
        "reference": case.reference,
        "candidate": case.candidate,
        "total": score.value,
        "why": score.why,
        "length": None if math.isnan(table.length_B[0]) else float(table.length_B[0]),
        "penalty": reward.recipe.format_penalty if table.skipped_B_K[0].any() else 0.0,
        "terms": [
            {
                "name": term.name,
                "weight": term.weight,
                "value": score.parts.get(term.name),
                "skipped": bool(table.skipped_B_K[0, k]),
                "evidence": evidence(term, case),
            }
            for k, term in enumerate(reward.terms)
        ],
        "changes": [
            {
                "kind": change.kind,
                "section": change.section,
                "sentence": change.sentence,
                "by": change.by,
                "total": change.total,
                "terms": change.terms,
            }
            for change in sorted(done, key=lambda change: -(change.total if change.total is not None else -math.inf))
        ],
    }


def _difference(after: float, before: float) -> float | None:
    return None if math.isnan(after) or math.isnan(before) else float(after - before)


# ---- what a term rests on --------------------------------------------------------------------------------------------


def evidence(term: Term, case: Case) -> dict[str, Any]:
    """What the value of one term rests on; for a term that we know nothing of, the parts of its Score."""
    target = getattr(term.metric, "term_with_judge", term.metric)
    if isinstance(target, OfSection) and not hasattr(target, "prepare"):
        return _of_section(term, case)
    if isinstance(target, Consistent):
        return _judged(target, case)
    [score] = term.reward([case])
    if score.value is None:
        return {"why": score.why}
    if isinstance(target, Syntax):
        return {**score.parts, **_runs(target.bleu, case), **_subsequence(case)}
    if isinstance(target, Bleu):
        return _runs(target, case)
    if isinstance(target, ImpressionF1):
        return _labels_of(target, case, score)
    if isinstance(target, LabelF1):
        said, true = target.positives(case.candidate), target.positives(case.reference or "")
        return _sides("labels", said, true)
    if isinstance(target, Domain):
        return _facts(target.case(case), target.metric.level)
    if isinstance(target, Factgraph):
        return _facts(case, target.level)
    if isinstance(target, RougeL):
        return _subsequence(case)
    return {name: value for name, value in score.parts.items() if name not in MEAN_PARTS}


def _of_section(term: Term, case: Case) -> dict[str, Any]:
    """The evidence of the metric that measures one section ("impression/label_f1_14"), on that section."""
    section, _, name = term.name.partition("/")
    if case.section == REPORT:
        case = replace(case, candidate=getattr(cut(case.candidate), section) or "", section=section)
    metric = load_metric(name)
    return evidence(replace(term, name=name, metric=metric, reward=metric.score), case)


def _judged(term: Consistent, case: Case) -> dict[str, Any]:
    question = term.question(case)
    if isinstance(question, Score):
        return {"why": question.why or "there is no impression, or no findings in the report, to ask the judge about"}
    [verdict] = term.judge.consistent([question])
    answer = {True: "consistent", False: "not consistent", None: "no answer"}[verdict.value]
    return {
        "judge": term.judge.signature.partition("|")[0].removeprefix("judge="),
        "answer": answer,
        "rationale": verdict.rationale or verdict.why,
    }


def _runs(metric: Bleu, case: Case) -> dict[str, Any]:
    """Shared runs of 1 to 4 words, of how many in the candidate."""
    *shared, said, true = pair_counts(metric.convention.tokens, case.reference or "", case.candidate)
    runs = {str(n): f"{shared[n - 1]}/{max(said - n + 1, 0)}" for n in range(1, min(LARGEST, metric.order) + 1)}
    return {"runs of words": runs, "words": said, "words of the reference": true}


def _subsequence(case: Case) -> dict[str, Any]:
    true, said = tokens(case.reference or ""), tokens(case.candidate)
    longest = longest_common_subsequence(true, said)
    return {"longest common subsequence": f"{longest} of {len(said)} words, {len(true)} of the reference"}


def _labels_of(term: ImpressionF1, case: Case, score: Score) -> dict[str, Any]:
    impression = term.impression(case)
    if isinstance(impression, Score):
        return {"why": impression.why}
    both, invented, missed = term.agreement(case.study, impression)
    return {
        "labels in both": list(both),
        "only in the candidate": list(invented),
        "only in the reference": list(missed),
    }


def _sides(what: str, said: frozenset[str], true: frozenset[str]) -> dict[str, Any]:
    return {
        f"{what} in both": sorted(said & true),
        "only in the candidate": sorted(said - true),
        "only in the reference": sorted(true - said),
    }


def _facts(case: Case, level: Level) -> dict[str, Any]:
    said, true = facts_of(case.candidate, level), facts_of(case.reference or "", level)
    shown = (frozenset(_fact(fact) for fact in found) for found in (said, true))
    return _sides("facts", *shown)


def _fact(fact: Sequence[str | bool]) -> str:
    """ "effusion located_at pleural", "pneumothorax (absent)", "opacity (related)"."""
    head = f"{fact[0]}{_SAID.get(str(fact[1]), '')}"
    if len(fact) == 4:
        return f"{head} {fact[2]} {fact[3]}"
    return f"{head} (related)" if len(fact) == 3 and fact[2] else head


# ---- which sentence would change it ----------------------------------------------------------------------------------


def _changes(case: Case) -> Iterator[Change]:
    whole = case.section == REPORT
    spans = list(_sentences(case.candidate, whole))
    said = {(part, tokens(case.candidate[a:b])) for part, a, b in spans}
    wanted = [
        (part, reference[a:b])
        for part in (_PARTS if whole else (case.section,))
        if (reference := case.study.sections.text(part))
        for a, b in sentence_spans(reference)
    ]
    right = {(part, tokens(sentence)) for part, sentence in wanted}
    wanted = [(part, sentence) for part, sentence in wanted if (part, tokens(sentence)) not in said]
    for part, a, b in spans:
        sentence = case.candidate[a:b]
        yield Change("drop", part, sentence, None, _without(case.candidate, a, b))
        nearest = _nearest(sentence, [one for other, one in wanted if part in (other, REPORT)])
        if nearest is not None and (part, tokens(sentence)) not in right:
            yield Change("replace", part, sentence, nearest, case.candidate[:a] + nearest + case.candidate[b:])
    for part, sentence in wanted:
        yield Change("add", part, None, sentence, _with(case.candidate, part, sentence, whole))


def _sentences(candidate: str, whole: bool) -> Iterator[tuple[str, int, int]]:
    """(section, start, end) of each sentence; of a report without headers all under "report"."""
    if not whole:
        yield from (("impression", a, b) for a, b in sentence_spans(candidate))
        return
    for section in parse(candidate).sections:
        part = section.name if section.name in _PARTS else REPORT
        yield from ((part, a, b) for a, b in sentence_spans(candidate, section.start, section.end))


def _without(candidate: str, a: int, b: int) -> str:
    before, after = candidate[:a], candidate[b:].lstrip(" ")
    return before + after if after[:1] not in ("", "\n") else before.rstrip(" ") + after


def _with(candidate: str, part: str, sentence: str, whole: bool) -> str:
    """The sentence at the end of its section, which is opened where it is not there."""
    end = len(candidate)
    if whole:
        there = [section.end for section in parse(candidate).sections if section.name == part]
        if not there:
            headed = f"{part.capitalize()}: {sentence}"
            return f"{headed}\n{candidate}" if part == "findings" else f"{candidate}\n{headed}"
        end = there[-1]
    before = candidate[:end].rstrip()
    stop = "" if not before or before[-1] in ".!?:" else "."
    return f"{before}{stop}{' ' if before else ''}{sentence}{candidate[end:]}"


def _nearest(sentence: str, among: Sequence[str]) -> str | None:
    """The sentence that shares most words (F1 of stemmed words), the first of equals; None where none shares any."""
    said = set(tokens(sentence))
    shares = [2 * len(said & set(tokens(one))) / max(1, len(said) + len(set(tokens(one)))) for one in among]
    best = max(range(len(among)), key=shares.__getitem__, default=None)
    return None if best is None or not shares[best] else among[best]


# ---- shown -----------------------------------------------------------------------------------------------------------


def render(found: Mapping[str, Any], top: int = TOP) -> str:
    """:func:`explain` for people: x 100, the ``top`` best changes."""
    total = found["why"] if found["total"] is None else hundredfold(found["total"])
    lines = [
        f"study {found['study']}, {found['section']}",
        f"  reference: {_one_line(found['reference'])}",
        f"  candidate: {_one_line(found['candidate'])}",
        "",
        f"reward x 100: {total}",
    ]
    if found["penalty"]:
        lines.append(f"  a skipped term counts as its lowest here, and {hundredfold(found['penalty'])} is taken off")
    for term in found["terms"]:
        value = "skipped" if term["skipped"] else hundredfold(term["value"])
        lines.append(f"  {term['weight']:g} x {term['name']}: {value}")
        lines += [f"      {name}: {_shown(said)}" for name, said in term["evidence"].items()]
    names = [term["name"] for term in found["terms"]]
    grid = [["change", "reward", *names, "sentence"]]
    for change in found["changes"][:top]:
        cells = [hundredfold(change["terms"][name], sign=True) for name in names]
        grid.append(
            [f"{change['kind']}, {change['section']}", hundredfold(change["total"], sign=True), *cells, _told(change)]
        )
    if len(grid) > 1:
        left = len(found["changes"]) - top
        more = f", best {top} of {len(found['changes'])}" if left > 0 else ""
        lines += ["", f"one sentence done otherwise, change x 100{more}", text(grid).rstrip("\n")]
    return "\n".join(lines)


def _told(change: Mapping[str, Any]) -> str:
    if change["kind"] == "replace":
        return f"{_one_line(change['sentence'])} -> {_one_line(change['by'])}"
    return _one_line(change["by"] or change["sentence"])


def _shown(said: Any) -> str:
    if isinstance(said, float):
        return hundredfold(said)
    if isinstance(said, Mapping):
        return ", ".join(f"{key}: {_shown(value)}" for key, value in said.items())
    if isinstance(said, list):
        return ", ".join(map(str, said)) or UNKNOWN
    return str(said)


def _one_line(said: str) -> str:
    return " ".join(said.split())
