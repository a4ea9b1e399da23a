"""Trivial rows: what a table must be read against. Each needs no model, only the train split or what a prompt shows.

``train`` is the whole train split, whatever a run trains on of it: a row must not be handicapped to be beaten.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from radiograd.errors import ConfigError, DataError, did_you_mean
from radiograd.tasks import TASKS, Task
from radiograd.types import REPORT, Study

_WORD = re.compile(r"\w+")


def build(name: str, train: Sequence[Study], test: Sequence[Study], seed: int, task: str) -> dict[str, str]:
    """Study id -> text for every study of ``test``, in its order; ``task`` is a key of TASKS.

    Independent of the order of ``train``. Raises ConfigError for an unknown name, DataError when the data cannot give
    such a row.
    """
    check(name)
    return BASELINES[name](train, test, seed, TASKS[task])


def check(name: str) -> None:
    """ConfigError, with the nearest known one, when no baseline has that name."""
    if name not in BASELINES:
        raise ConfigError(f"no baseline is called {name!r}.{did_you_mean(name, BASELINES)}")


def constant(train: Sequence[Study], test: Sequence[Study], seed: int, task: Task) -> dict[str, str]:
    """The commonest train reference (impression, or report) for everyone. Compared without case and punctuation, given
    in its commonest spelling; ties go to the alphabetically first."""
    sentence = commonest([task.target(study) for study in train])
    if sentence is None:
        raise DataError(f"baseline 'constant' needs a train {task.section} that holds a word; there is none")
    return {study.study_id: sentence for study in test}


def retrieval(train: Sequence[Study], test: Sequence[Study], seed: int, task: Task) -> dict[str, str]:
    """The reference of the train study whose prompt shows the most similar text: findings, or for a report what there
    is of indication and comparison.

    Cosine of TF-IDF vectors: words as ``\\w+`` without case, 1 + ln(tf), idf = ln((1 + N) / (1 + df)) + 1, length 1.
    Ties go to the smaller study id. A text that shares no word with any of train gets the constant row's sentence.
    """
    pool = sorted((s for s in train if _shown(s, task) and task.target(s)), key=lambda s: s.study_id)
    if not pool:
        asked = " or ".join(label.lower() for label, _ in task.shown)
        raise DataError(f"baseline 'retrieval' needs a train study with {asked} and {task.section}; none has both")
    nearest = nearest_texts([_shown(s, task) for s in pool], [_shown(s, task) for s in test])
    unlike = constant(train, test, seed, task)
    return {
        study.study_id: unlike[study.study_id] if i is None else task.target(pool[i])
        for study, i in zip(test, nearest, strict=True)
    }


def other_patient(train: Sequence[Study], test: Sequence[Study], seed: int, task: Task) -> dict[str, str]:
    """The radiologist's own text for another held-out patient, drawn with ``seed``.

    Patients are put into a random ring and everyone takes from the place one patient's worth of studies on, so each
    text is used once unless one patient has more than half of the studies or texts are missing.
    """
    patients = sorted({study.patient_id for study in test})
    rank = dict(zip(patients, np.random.default_rng(seed).permutation(len(patients)).tolist(), strict=True))
    ring = sorted(test, key=lambda s: (rank[s.patient_id], s.study_id))
    step = max(Counter(study.patient_id for study in test).values(), default=0)
    texts = {}
    for i, study in enumerate(ring):
        following = (ring[(i + step + k) % len(ring)] for k in range(len(ring)))
        donor = next((d for d in following if d.patient_id != study.patient_id and task.target(d)), None)
        if donor is None:
            raise DataError(
                f"baseline 'other_patient' needs held-out {task.section}s of at least two patients; "
                "hold out more studies or leave it out of evaluate.baselines"
            )
        texts[study.study_id] = task.target(donor)
    return {study.study_id: texts[study.study_id] for study in test}


def copy_findings(train: Sequence[Study], test: Sequence[Study], seed: int, task: Task) -> dict[str, str]:
    """The findings themselves; the empty text when there are none. ConfigError where findings are what is written."""
    if task.section == REPORT:
        raise ConfigError("baseline 'copy_findings' repeats the findings, which a report is yet to say; leave it out")
    return {study.study_id: study.sections.findings or "" for study in test}


Build = Callable[[Sequence[Study], Sequence[Study], int, Task], dict[str, str]]

BASELINES: Mapping[str, Build] = {
    "constant": constant,
    "retrieval": retrieval,
    "other_patient": other_patient,
    "copy_findings": copy_findings,
}


def _shown(study: Study, task: Task) -> str:
    """What a prompt shows of a study, without its labels; "" for a study that has nothing to show."""
    return "\n".join(text for _, read in task.shown if (text := (read(study) or "").strip()))


def commonest(texts: Sequence[str]) -> str | None:
    """The commonest text up to case, punctuation and blanks, in its commonest spelling; None without any words."""
    spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text in texts:
        spellings[" ".join(_words(text))][text.strip()] += 1
    spellings.pop("", None)
    if not spellings:
        return None
    key = min(spellings, key=lambda k: (-spellings[k].total(), k))
    return min(spellings[key], key=lambda text: (-spellings[key][text], text))


def nearest_texts(pool: Sequence[str], queries: Sequence[str]) -> list[int | None]:
    """For each query the place of the most similar text of ``pool`` (first among equals), None without a shared word.

    TF-IDF cosine as :func:`retrieval` describes, idf over ``pool``. Words lead to the texts that hold them, so a query
    touches only those.
    """
    counts = [Counter(_words(text)) for text in pool]
    frequency = Counter(word for count in counts for word in count)
    idf = {word: math.log((1 + len(pool)) / (1 + df)) + 1 for word, df in frequency.items()}
    holders: defaultdict[str, list[int]] = defaultdict(list)
    weights: defaultdict[str, list[float]] = defaultdict(list)
    for i, count in enumerate(counts):
        for word, weight in _unit_vector(count, idf).items():
            holders[word].append(i)
            weights[word].append(weight)
    postings = {word: (np.array(holders[word]), np.array(weights[word])) for word in holders}
    nearest: list[int | None] = []
    for query in queries:
        similarity = np.zeros(len(pool))
        for word, weight in _unit_vector(Counter(_words(query)), idf).items():
            places, values = postings[word]
            similarity[places] += weight * values
        # Equal texts may differ in the last bits; the first of them is taken.
        best = float(similarity.max(initial=0.0))
        nearest.append(int(np.argmax(similarity >= best - 1e-12)) if best > 0 else None)
    return nearest


def _unit_vector(count: Mapping[str, int], idf: Mapping[str, float]) -> dict[str, float]:
    vector = {word: (1 + math.log(tf)) * idf[word] for word, tf in sorted(count.items()) if word in idf}
    length = math.sqrt(sum(value * value for value in vector.values()))
    return {word: value / length for word, value in vector.items()}


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
