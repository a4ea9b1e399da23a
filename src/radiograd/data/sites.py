"""Sites: which studies come from where, for training on one place and testing on others.

Where several sources are given, each is a site. One source can be divided into sites by how its findings are written,
from telegram style ("Heart size normal.") to whole sentences ("The heart is normal in size."):

1. Of each study's findings three numbers: the share of its sentences that hold a finite verb, the share of its words
   that are an article or "there", and the logarithm of its words per sentence. The impression is not looked at.
2. Each number is standardised over all studies of the source; their mean is the study's score. Studies of one patient
   or with near-duplicate findings get the mean score of their group.
3. Groups in the order of their score (ties: of their smallest study id) are cut into ``count`` parts of as equal
   numbers of studies as whole groups allow: ``style-1`` is the most telegraphic.

No chance is in it, and no order of rows. Other studies move the borders. What is written shortly is more often normal:
``data/summary.json`` has the share of normal studies of each site, which a reader must know.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from radiograd.config import DataConfig
from radiograd.text.sentences import sentence_spans
from radiograd.types import Study

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_VERBS = frozenset(
    (
        *(
            "is",
            "are",
            "was",
            "were",
            "be",
            "been",
            "has",
            "have",
            "had",
            "may",
            "can",
            "could",
            "should",
            "does",
            "do",
        ),
        *("appears", "appear", "appeared", "remains", "remain", "shows", "show", "demonstrates", "demonstrate"),
        *("suggests", "suggest", "projects", "project", "measures", "overlies", "overlie"),
    )
)
_ARTICLES = frozenset(("a", "an", "the", "there"))


def site_of_each(studies: Sequence[Study], groups: Sequence[int], data: DataConfig) -> dict[str, str]:
    """Study id -> site, for all of ``studies``; empty where ``data`` has one site only.

    ``groups`` numbers studies that must stay together, as ``splits.study_groups`` gives it. Studies of further sources
    carry their site already.
    """
    if not data.site_names:
        return {}
    own = [number for number, study in enumerate(studies) if study.site is None]
    sites = {study.study_id: study.site for study in studies if study.site is not None}
    if data.sites.rule == "source":
        return sites | {studies[number].study_id: data.source for number in own}
    styles = divide_by_style([studies[number] for number in own], [groups[number] for number in own], data.sites.count)
    return sites | styles


def divide_by_style(studies: Sequence[Study], groups: Sequence[int], count: int) -> dict[str, str]:
    """Study id -> ``style-1`` to ``style-<count>``, whole groups at a time."""
    scores = style_scores([study.sections.findings or "" for study in studies])
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)

    def place_of(group: int) -> tuple[float, str]:
        numbers = members[group]
        return math.fsum(scores[n] for n in numbers) / len(numbers), min(studies[n].study_id for n in numbers)

    sites: dict[str, str] = {}
    before = 0
    for group in sorted(members, key=place_of):
        middle = before + len(members[group]) / 2
        place = min(count, 1 + int(count * middle / len(studies)))
        sites |= {studies[number].study_id: f"style-{place}" for number in members[group]}
        before += len(members[group])
    return sites


def style_scores(texts: Sequence[str]) -> list[float]:
    """How far each text is written in whole sentences, against the others: the mean of its standardised features."""
    columns = [_standardised(column) for column in zip(*(style_features(text) for text in texts), strict=True)]
    return [math.fsum(values) / len(values) for values in zip(*columns, strict=True)]


def style_features(text: str) -> tuple[float, float, float]:
    """Share of sentences with a finite verb, share of words that are articles, log of words per sentence."""
    sentences = [_WORD.findall(text[start:end].lower()) for start, end in sentence_spans(text)]
    sentences = [words for words in sentences if words]
    words = [word for sentence in sentences for word in sentence]
    if not words:
        return 0.0, 0.0, 0.0
    verbal = sum(not _VERBS.isdisjoint(sentence) for sentence in sentences) / len(sentences)
    articles = sum(word in _ARTICLES for word in words) / len(words)
    return verbal, articles, math.log(len(words) / len(sentences))


def site_counts(studies: Sequence[Study], assignment: Mapping[str, str]) -> dict[str, dict[str, float | int | None]]:
    """Site -> studies, patients, studies of each split, how they are written and how many are normal."""
    found: dict[str, dict[str, float | int | None]] = {}
    for site in sorted({study.site for study in studies if study.site is not None}):
        of = [study for study in studies if study.site == site]
        said = [study.normal for study in of if study.normal is not None]
        features = [style_features(study.sections.findings or "") for study in of]
        lengths = [len(_WORD.findall(study.sections.findings or "")) for study in of]
        found[site] = {
            "studies": len(of),
            "patients": len({study.patient_id for study in of}),
            **{name: sum(assignment[study.study_id] == name for study in of) for name in ("train", "val", "test")},
            "normal_share": sum(said) / len(said) if said else None,
            "findings_words_mean": sum(lengths) / len(lengths),
            "sentences_with_verb_share": math.fsum(one[0] for one in features) / len(of),
            "articles_share": math.fsum(one[1] for one in features) / len(of),
        }
    return found


def _standardised(values: Sequence[float]) -> list[float]:
    """Mean 0 and standard deviation 1; all 0 where they are all the same. Sums do not depend on their order."""
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return [(value - mean) / spread if spread > 1e-12 else 0.0 for value in values]
