"""RadCliQ: the number of errors radiologists would count, predicted from four metrics. Lower is better.

Yu et al. 2023 (doi 10.1016/j.patter.2023.100802). A linear model over RadGraph F1 (mean of entity and relation F1),
BERTScore, SembScore and BLEU-2, standardised first. Numbers: github.com/rajpurkarlab/CXR-Report-Metric (normalizer.pkl
and composite_metric_model.pkl for v0, radcliq-v1.pkl for v1); v1 also in github.com/jbdel/RadEval, radcliq.py, to eight
digits. Version 1 gives BLEU no weight. Perfect agreement is -0.24213 (v0) and -1.44069 (v1); values of single reports
cross 0, so 1 / RadCliQ is taken of the mean only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from radiograd.errors import DataError, ModelError, UsageError
from radiograd.labelers.process import open_program
from radiograd.labelers.protocol import Answer, program_from
from radiograd.metrics import MEAN_PARTS, Array, Metric, mean_of, mean_score, no_reference, start
from radiograd.metrics.bertscore import DistilRobertaBertScore
from radiograd.metrics.bleu import Bleu
from radiograd.metrics.external import before_asking
from radiograd.metrics.radgraph import kept_graphs
from radiograd.types import REPORT, Case, Score

INPUTS = ("radgraph", "bertscore", "semb", "bleu2")


@dataclass(frozen=True, slots=True)
class Model:
    """score = ((x - mean) / scale) . weight + bias, x in the order of :data:`INPUTS`."""

    mean: tuple[float, float, float, float]
    scale: tuple[float, float, float, float]
    weight: tuple[float, float, float, float]
    bias: float


V0 = Model(
    mean=(0.5398376019082272, 0.6312549595000001, 0.7716797866672277, 0.4607372064809605),
    scale=(0.3018344440559102, 0.22466950746141123, 0.24750333805236252, 0.30336670936092264),
    weight=(-0.4796252644863446, -0.6762170542369337, -0.46366575161751994, 0.2165861905287535),
    bias=1.641666666666666,
)
V1 = Model(
    mean=(0.5379231241355762, 0.6175725628125001, 0.7647942121140658, 0.44738335396242174),
    scale=(0.3028258411486429, 0.22430938459304575, 0.2539439110169773, 0.2989271671041838),
    weight=(-0.37708368261038905, -0.37030009974480316, -0.25261621789593225, 4.31504841e-12),
    bias=2.46655256e-10,
)

Parser = Callable[[Sequence[str]], Sequence[Answer]]
"""Texts -> RadGraph's JSON of each, or why there is none."""


def v0(radgraph: ArrayLike, bertscore: ArrayLike, semb: ArrayLike, bleu2: ArrayLike) -> Array | np.float64:
    """RadCliQ-v0 of components in [0, 1] (rescaled BERTScore may be below): numbers or arrays of one shape.

    Returns that shape; NaN where a component is NaN.
    """
    return _apply(V0, (radgraph, bertscore, semb, bleu2))


def v1(radgraph: ArrayLike, bertscore: ArrayLike, semb: ArrayLike, bleu2: ArrayLike) -> Array | np.float64:
    """RadCliQ-v1, as :func:`v0`. ``bleu2`` has a weight of 4e-12: it only makes NaN of NaN."""
    return _apply(V1, (radgraph, bertscore, semb, bleu2))


def inverse_mean(values: ArrayLike) -> float:
    """1 / mean of the values that are not NaN, as leaderboards print it: larger is better while the mean is positive.

    It changes sign where the mean crosses 0, so it stands beside the mean, never alone. NaN without a value, infinite
    for a mean of 0.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not known.size:
        return math.nan
    mean = float(known.mean())
    return 1 / mean if mean else math.inf


def radgraph_combined(hypothesis: Mapping[str, Any], reference: Mapping[str, Any]) -> float:
    """(entity F1 + relation F1) / 2 on RadGraph's JSON of two reports, as RadCliQ takes it.

    An entity is (tokens, label), a relation (entity, entity, type); sets, case kept, an F1 of 0 when either side is
    empty: a report without a relation gets 0.5 at most, also from itself. Source: radgraph_evaluate_model.py of
    github.com/rajpurkarlab/CXR-Report-Metric. Raises DataError naming the entity for a graph out of the layout.
    """
    ours, theirs = _facts(hypothesis), _facts(reference)
    return sum(_set_f1(a, b) for a, b in zip(ours, theirs, strict=True)) / 2


class RadGraphCombined:
    """:func:`radgraph_combined` of the graphs a RadGraph model gives; the mean over cases.

    ``parser`` runs the model (the original one, not RadGraph-XL, for RadCliQ), ``model`` names it in the signature,
    now or once it runs. An empty candidate is 0 without asking.
    """

    name = "radgraph_combined"
    higher_is_better = True
    part_names: tuple[str, ...] = MEAN_PARTS

    def __init__(
        self, parser: Parser, model: str | Callable[[], str], start: Callable[[], None] = lambda: None
    ) -> None:
        self._parser = parser
        self._model = model
        self.start = start
        """Brings up what the parser asks."""

    @classmethod
    def of_program(cls, program: Mapping[str, Any] | None) -> RadGraphCombined:
        """Over a RadGraph that runs as a program of its own, shared with the metrics ``radgraph_*``.

        ``program``: see :func:`radiograd.labelers.process.program_from`, which raises ConfigError.
        """
        scorer = open_program(program_from(program, cls.name))
        return cls(lambda texts: kept_graphs(scorer, texts), lambda: scorer.identity, scorer.start)

    @property
    def signature(self) -> str:
        """A program tells its name and version once it runs."""
        model = self._model if isinstance(self._model, str) else self._model()
        return f"{self.name}|(entity F1 + relation F1) / 2|{model}|case kept|empty:0|mean over cases"

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case; unscored without a reference or where the model gave no graph."""
        early = [before_asking(case) for case in cases]
        asked = [case for case, known in zip(cases, early, strict=True) if known is None]
        texts = list(dict.fromkeys(text for case in asked for text in (case.candidate, case.reference or "")))
        graphs = dict(zip(texts, self._parser(texts) if texts else (), strict=True))
        return [
            known if known is not None else _compare(graphs[case.candidate], graphs[case.reference or ""])
            for case, known in zip(cases, early, strict=True)
        ]

    def combine(self, sums: Mapping[str, Array]) -> Array:
        """The mean over scored cases."""
        return mean_of(sums)


def _compare(candidate: Answer, reference: Answer) -> Score:
    for side, answer in (("candidate", candidate), ("reference", reference)):
        if answer.why is not None:
            return Score(None, why=f"no graph of the {side}: {answer.why}")
    try:
        return mean_score(radgraph_combined(candidate.value, reference.value))
    except DataError as error:
        return Score(None, why=f"the program's {error}")


class RadCliqBleu2(Bleu):
    """BLEU-2 as RadCliQ takes it, which is that of the convention `rexrank` under a name of its own.

    Lower case, full stops apart, split at blanks; a missing match counts 0.1: a text of one word gets 0.32 at most,
    also from itself.
    """

    def __init__(self) -> None:
        super().__init__(2, "rexrank")
        self.name = "radcliq_bleu2"
        self.signature = f"{self.name}|{self.signature.partition('|')[2]}"


class _RadCliq:
    """What the two versions share: four component metrics and a linear model.

    ``radgraph``: ``RadGraphCombined.of_program({...})``; ``semb``: ``SembScore(chexbert.embed, chexbert.signature)``
    with ``chexbert = load_labeler("chexbert", {...})``. ``bertscore`` and ``bleu2`` are as published when left out.
    Raises ModelError without the first two, UsageError for a metric of another name in their place.
    """

    name: str
    model: Model
    higher_is_better = False
    part_names: tuple[str, ...] = (*MEAN_PARTS, *INPUTS)

    def __init__(
        self,
        radgraph: Metric | None = None,
        semb: Metric | None = None,
        bertscore: Metric | None = None,
        bleu2: Metric | None = None,
    ) -> None:
        if radgraph is None or semb is None:
            raise ModelError(
                f"{self.name} was fitted to the original RadGraph and CheXbert, whose weights we may not bring: give "
                f"{type(self).__name__} radgraph=RadGraphCombined(...) over your RadGraph and semb=SembScore(...) over "
                "your CheXbert; our factgraph and embedscore are no substitutes"
            )
        for metric, right in ((radgraph, "radgraph_combined"), (semb, "sembscore")):
            if metric.name != right:
                raise UsageError(f"{self.name} takes {right}, not {metric.name}: its numbers would not be RadCliQ's")
        self._components: dict[str, Metric] = {
            "radgraph": radgraph,
            "bertscore": bertscore or DistilRobertaBertScore(),
            "semb": semb,
            "bleu2": bleu2 or RadCliqBleu2(),
        }
        ends = [getattr(metric, "bounds", (0.0, 1.0)) for metric in self._components.values()]
        corners = [float(_apply(self.model, corner)) for corner in product(*ends)]
        self.bounds = (min(corners), max(corners))
        """A linear model is lowest and highest where each component is."""

    @property
    def signature(self) -> str:
        """With those of the components, some of which are known once their program runs."""
        inside = "|".join(f"{key}=[{metric.signature}]" for key, metric in self._components.items())
        low, high = self.bounds
        return f"{self.name}|lower is better, {low:.2f} to {high:.2f}|{inside}|mean over cases"

    def start(self) -> None:
        """Bring up the programs that components ask."""
        start(self._components.values())

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case; unscored without a reference or when a component is, and then the reason names it."""
        spaced = [single_spaced(case) for case in cases]
        found = {key: metric.score(spaced if key == "bertscore" else cases) for key, metric in self._components.items()}
        return [self._one(case, {key: scores[row] for key, scores in found.items()}) for row, case in enumerate(cases)]

    def beside(self, mean: float) -> dict[str, float]:
        """Leaderboards print 1 / mean; it changes sign where the mean crosses 0, so the mean stands with it."""
        return {"inverse_mean": 1 / mean} if mean else {}

    def combine(self, sums: Mapping[str, Array]) -> Array:
        """The mean over scored cases; leaderboards print its inverse (:func:`inverse_mean`)."""
        return mean_of(sums)

    def _one(self, case: Case, found: Mapping[str, Score]) -> Score:
        unscored = no_reference(case)
        if unscored is not None:
            return unscored
        values: dict[str, float] = {}
        for key, score in found.items():
            if score.value is None:
                return Score(None, why=f"{key}: {score.why}")
            values[key] = score.value
        value = float(_apply(self.model, tuple(values[key] for key in INPUTS)))
        return Score(value, {"sum": value, "n": 1.0, **values})


class RadCliqV0(_RadCliq):
    """The version of the article."""

    name = "radcliq_v0"
    model = V0


class RadCliqV1(_RadCliq):
    """The version of the leaderboards."""

    name = "radcliq_v1"
    model = V1


# ---- pure parts ------------------------------------------------------------------------------------------------------


def single_spaced(case: Case) -> Case:
    """The case with runs of blanks made one in both texts, as RadCliQ hands them to BERTScore."""
    candidate = re.sub(" +", " ", case.candidate)
    reference = case.reference
    if reference is None or "  " not in reference:
        return replace(case, candidate=candidate)
    sections = case.study.sections
    names = ("findings", "impression") if case.section == REPORT else (case.section,)
    changed: dict[str, Any] = {name: re.sub(" +", " ", sections.text(name) or "") for name in names}
    sections = replace(sections, **changed)
    return replace(case, candidate=candidate, study=replace(case.study, sections=sections))


def _apply(model: Model, inputs: Sequence[ArrayLike]) -> Array | np.float64:
    x = np.stack(np.broadcast_arrays(*(np.asarray(values, dtype=np.float64) for values in inputs)), axis=-1)
    found: Array | np.float64 = ((x - model.mean) / model.scale) @ np.asarray(model.weight) + model.bias
    return found


def _set_f1(ours: set[Any], theirs: set[Any]) -> float:
    return 2 * len(ours & theirs) / (len(ours) + len(theirs)) if ours and theirs else 0.0


def _facts(graph: Mapping[str, Any]) -> tuple[set[Any], set[Any]]:
    """(entities, relations) of one report's graph, bare or as {"0": graph}."""
    inner = graph["0"] if isinstance(graph, Mapping) and "entities" not in graph and set(graph) == {"0"} else graph
    entities = inner.get("entities") if isinstance(inner, Mapping) else None
    if not isinstance(entities, Mapping):
        raise DataError('not a graph of one report: expected {"entities": {"1": {...}, ...}}')
    seen: dict[str, tuple[str, str]] = {}
    for key, entity in entities.items():
        try:
            seen[key] = (entity["tokens"], entity["label"])
            hash(seen[key])
        except (KeyError, TypeError):
            raise DataError(f"graph entity {key}: expected an object with tokens, label and relations") from None
    relations: set[Any] = set()
    for key, entity in entities.items():
        for relation in entity.get("relations", ()):
            try:
                kind, target = relation
                relations.add((seen[key], seen[str(target)], kind))
            except (KeyError, TypeError, ValueError):
                raise DataError(
                    f'graph entity {key}: a relation is not ["type", "id of another entity of the graph"]'
                ) from None
    return set(seen.values()), relations
