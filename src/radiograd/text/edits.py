"""Edits of a report whose effect on a reader is known: what a metric or a reward must notice, and what it must not.

Harmful edits change what is said of the patient (or say nothing, or say it over and over); harmless ones do not.
An edit gives None where it does not apply, so that every text it gives really is what its name says. Pure; the random
generator only chooses which sentence or finding is meant. ``EDITS`` are what metrics and judges are looked at with
(docs/metrics.md); ``HACKS`` are what a policy drifts into when its reward lets it (docs/radflow.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from numpy.random import Generator

from radiograd.text.findings import read, read_in_place
from radiograd.text.labels import label_set, roll_up
from radiograd.text.sections import parse
from radiograd.text.sentences import sentence_spans
from radiograd.types import Status

TEMPLATE = "No acute cardiopulmonary abnormality."
STUFFING = (
    "Cardiomegaly. Pulmonary edema. Consolidation. Pneumonia. Atelectasis. Pneumothorax. Pleural effusion. "
    "Rib fracture. Lung mass. Pleural thickening. Widened mediastinum. Central line in place."
)
INVENTED: Mapping[str, str] = {
    "Pneumothorax": "There is a large right pneumothorax.",
    "Pleural Effusion": "There is a moderate left pleural effusion.",
    "Mass": "There is a right upper lobe mass.",
    "Fracture": "There is an acute left rib fracture.",
    "Pneumonia": "There is right lower lobe pneumonia.",
    "Edema": "There is severe pulmonary edema.",
}
"""A finding and a sentence that states it, for a report that does not mention it."""
RARE = (
    "Lymphangioleiomyomatosis. Sequestration. Alveolar microlithiasis. Mesothelioma. Chondrosarcoma. "
    "Schistosomiasis. Blastomycosis. Hamartoma. Scimitar. Pectus carinatum."
)
"""Words that hardly any report holds: what a reward by rarity of words would pay for."""
PRIORS = (
    "Compared to the prior examination, this is unchanged.",
    "There has been interval improvement since the previous study.",
    "No new pneumothorax since the prior examination.",
)
"""Claims of a change since an earlier film; our rules tie a change to a finding, and read the last one only."""

_SIDES = {"left": "right", "right": "left", "leftward": "rightward", "rightward": "leftward"}
_DEGREES = {
    "small": "large",
    "tiny": "large",
    "trace": "large",
    "large": "small",
    "mild": "severe",
    "mildly": "severely",
    "minimal": "severe",
    "minimally": "severely",
    "slight": "severe",
    "slightly": "severely",
    "severe": "mild",
    "severely": "mildly",
    "marked": "minimal",
    "markedly": "minimally",
    "moderate": "minimal",
    "moderately": "minimally",
}
_OF_A_PRIOR = re.compile(
    r"\b(?:compar\w+|prior|previous\w*|interval\w*|unchanged|stable|change[sd]?|increas\w+|decreas\w+|improv\w+|"
    r"worse\w*|new|newly|persist\w+|again|resol\w+|since|progress\w*)\b",
    re.IGNORECASE,
)
_SAME = {
    "no evidence of": "no",
    "there is no": "no",
    "cardiomegaly": "enlarged heart",
    "pleural effusion": "pleural fluid",
    "pleural effusions": "pleural fluid",
    "within normal limits": "normal",
    "unremarkable": "normal",
    "bibasilar": "bilateral basilar",
    "unchanged": "stable",
    "hyperexpanded": "hyperinflated",
    "may represent": "could represent",
    "osseous": "bony",
}


@dataclass(frozen=True, slots=True)
class Edit:
    """``make`` gives the edited text, or None where the edit does not apply."""

    name: str
    harmful: bool
    make: Callable[[str, Generator], str | None]


def negation_flip(text: str, rng: Generator) -> str | None:
    """One finding that is there is denied, or one that is denied is there."""
    before = _statuses(text)
    options = [_denied(text, s.start) for s in read(text) if s.status is Status.PRESENT and s.cue is None]
    options += [
        text[: s.cue[0]] + text[s.cue[1] :].lstrip()
        for s in read(text)
        if s.status is Status.ABSENT and s.cue is not None and s.cue_name == "absent before" and s.cue[1] <= s.start
    ]
    for k in rng.permutation(len(options)):
        flipped = _capital(options[k], text)
        if flipped != text and _turned(before, _statuses(flipped)):
            return flipped
    return None


def laterality_flip(text: str, rng: Generator) -> str | None:
    """Left becomes right and right becomes left."""
    flipped = _swapped(text, _SIDES)
    return flipped if _attributes(flipped, "side") != _attributes(text, "side") else None


def severity_flip(text: str, rng: Generator) -> str | None:
    """Small becomes large, severe becomes mild, and so on."""
    flipped = _swapped(text, _DEGREES)
    same = all(_attributes(flipped, name) == _attributes(text, name) for name in ("severity", "size"))
    return None if same else flipped


def omission(text: str, rng: Generator) -> str | None:
    """A sentence that states a finding is left out; another sentence remains."""
    spans = list(sentence_spans(text))
    stating = [(a, b) for a, b in spans if any(s.status is Status.PRESENT for s in read(text[a:b]))]
    if len(spans) < 2 or not stating:
        return None
    a, b = stating[int(rng.integers(len(stating)))]
    left = f"{text[:a].rstrip()} {text[b:].lstrip()}".strip()
    return left if left and _statuses(left) != _statuses(text) else None


def hallucination(text: str, rng: Generator) -> str | None:
    """A finding that the report does not mention is added."""
    mentioned = _statuses(text)
    free = [sentence for finding, sentence in INVENTED.items() if mentioned[finding] is Status.UNMENTIONED]
    return f"{_ended(text)} {free[int(rng.integers(len(free)))]}" if free else None


def template(text: str, rng: Generator) -> str | None:
    """The commonest normal sentence, for a report that states a finding."""
    return TEMPLATE if Status.PRESENT in _statuses(text).values() else None


def repetition(text: str, rng: Generator) -> str | None:
    """Everything said twice more."""
    return " ".join([_ended(text)] * 3)


def stuffing(text: str, rng: Generator) -> str | None:
    """Every label stated as present, behind the report."""
    return f"{_ended(text)} {STUFFING}"


def empty(text: str, rng: Generator) -> str | None:
    """Nothing."""
    return ""


def rare_words(text: str, rng: Generator) -> str | None:
    """A row of rare words behind the report."""
    return f"{_ended(text)} {RARE}"


def invented_prior(text: str, rng: Generator) -> str | None:
    """A change since an earlier film is claimed, in a report that speaks of none."""
    return None if _OF_A_PRIOR.search(text) else f"{_ended(text)} {PRIORS[int(rng.integers(len(PRIORS)))]}"


def header_omission(text: str, rng: Generator) -> str | None:
    """The header of the impression is left out; what stood under it stays, as more of what stands before."""
    headed = [s for s in parse(text).sections if s.name == "impression" and s.header_start < s.header_end]
    if len(headed) != 1:
        return None
    left = f"{text[: headed[0].header_start]}{text[headed[0].header_end :].lstrip()}"
    return None if any(section.name == "impression" for section in parse(left).sections) else left


def reordering(text: str, rng: Generator) -> str | None:
    """The sentences in reverse order; list numbers left out."""
    sentences = [re.sub(r"^\(?\d{1,2}[.)]\s*", "", text[a:b]) for a, b in sentence_spans(text)]
    sentences = [_ended(sentence) for sentence in sentences if sentence.strip(" .")]
    turned = " ".join(sentences[::-1])
    return turned if len(sentences) > 1 and _statuses(turned) == _statuses(text) else None


def paraphrase(text: str, rng: Generator) -> str | None:
    """Words for words of the same meaning."""
    said = _swapped(text, _SAME)
    return said if said != text and _statuses(said) == _statuses(text) else None


EDITS: Mapping[str, Edit] = {
    edit.name: edit
    for edit in (
        Edit("negation_flip", True, negation_flip),
        Edit("laterality_flip", True, laterality_flip),
        Edit("severity_flip", True, severity_flip),
        Edit("omission", True, omission),
        Edit("hallucination", True, hallucination),
        Edit("template", True, template),
        Edit("repetition", True, repetition),
        Edit("stuffing", True, stuffing),
        Edit("empty", True, empty),
        Edit("reordering", False, reordering),
        Edit("paraphrase", False, paraphrase),
    )
}

HACKS: Mapping[str, Edit] = {
    edit.name: edit
    for edit in (
        *(EDITS[name] for name in ("stuffing", "template", "negation_flip", "laterality_flip", "severity_flip")),
        Edit("header_omission", True, header_omission),
        EDITS["repetition"],
        Edit("rare_words", True, rare_words),
        Edit("invented_prior", True, invented_prior),
        EDITS["empty"],
    )
}
"""Ways to a reward that no radiologist would pay for. All harmful."""
_OF_THE_WHOLE = frozenset({"header_omission", "empty"})


def hacked(name: str, text: str, rng: Generator) -> str | None:
    """``text`` after the hack called ``name``; None where it does not apply. KeyError for an unknown name.

    In a report with headers the hack is done under each header of findings and impression to which it applies, so that
    it is still a report; but for leaving the header out, and for saying nothing.
    """
    make = HACKS[name].make
    parts = [section for section in parse(text).sections if section.name in ("findings", "impression")]
    if name in _OF_THE_WHOLE or not any(part.header_start < part.header_end for part in parts):
        return make(text, rng)
    changed = False
    for part in reversed(parts):
        done = make(text[part.start : part.end], rng)
        if done is not None:
            changed, text = True, f"{text[: part.start]}{done}{text[part.end :]}"
    return text if changed else None


def _statuses(text: str) -> dict[str, Status]:
    return roll_up(read_in_place(text), label_set("all"))


def _turned(before: Mapping[str, Status], after: Mapping[str, Status]) -> bool:
    turned = {frozenset((before[name], after[name])) for name in before}
    return frozenset((Status.PRESENT, Status.ABSENT)) in turned


def _attributes(text: str, category: str) -> frozenset[tuple[str, tuple[str, ...]]]:
    return frozenset((s.finding, s.attributes.get(category, ())) for s in read_in_place(text))


def _denied(text: str, at: int) -> str:
    """ "no" before the phrase that holds the words at ``at``, in place of an article."""
    first = max((text.rfind(mark, 0, at) for mark in (". ", ", ", "; ", ": ", "\n")), default=-1)
    begin = first + 2 if first >= 0 else 0
    phrase = text[begin:at]
    article = re.search(r"\b(?:a|an|the|there is|there are|is|are|with)\s+", phrase, re.IGNORECASE)
    if article is None:
        return f"{text[:begin]}no {text[begin : begin + 1].lower()}{text[begin + 1 :]}"
    keep = article.group() if article.group().strip().lower() not in ("a", "an", "the") else ""
    rest = re.sub(r"^(?:a|an|the)\s+", "", text[begin + article.end() :])
    return f"{text[: begin + article.start()]}{keep}no {rest}"


def _swapped(text: str, pairs: Mapping[str, str]) -> str:
    pattern = r"\b(?:" + "|".join(sorted(map(re.escape, pairs), key=len, reverse=True)) + r")\b"

    def other(match: re.Match[str]) -> str:
        return _capital(pairs[match.group().lower()], match.group())

    return re.sub(pattern, other, text, flags=re.IGNORECASE)


def _capital(word: str, like: str) -> str:
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


def _ended(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?" else f"{text}."
