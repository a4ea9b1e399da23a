"""``radiograd explain``: what a run's token weights make of a text. Added by ``cli``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from radiograd.errors import DataError, RunError, UsageError, did_you_mean
from radiograd.types import POLICIES

if TYPE_CHECKING:
    from radiograd.config import TokenWeightConfig
    from radiograd.labelers.classifier import FindingClassifier
    from radiograd.report.heat import Scale, Token
    from radiograd.runs import Run
    from radiograd.types import Study

KINDS = ("tfidf", "gradient", "combined", "shuffled")
_BAR = 24


def add_commands(cli: click.Group) -> None:
    """Add the explain group to the command line."""
    cli.add_command(explain)


@click.group()
def explain() -> None:
    """What a run looks at: the weights of the tokens of a text."""


@explain.command(
    "tokens",
    epilog="""\b
Examples: radiograd explain tokens runs/deer
          radiograd explain tokens runs/deer --study 1042 --study 88 --html tokens.html
          radiograd explain tokens runs/quickstart --by tfidf --study 10 --text mine.txt""",
)
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--study", "study_ids", multiple=True, help="Id of a study; several times for several.")
@click.option("--row", help="Whose predictions: aligned (where there is one), sft, or any other row of the file.")
@click.option("--set", "eval_set", type=click.Choice(["val", "test"]), default="test", show_default=True)
@click.option(
    "--text",
    type=click.File("r", encoding="utf-8"),
    help='A text of your own for the one --study, instead of its prediction; "-" is standard input.',
)
@click.option("--by", type=click.Choice(KINDS), help="Which weights (default: the run's; combined where it has none).")
@click.option(
    "--classifier",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Embedded labeler whose gradient is taken, for a run that has none (radiograd labeler train).",
)
@click.option("--top", type=click.IntRange(min=1), default=12, show_default=True, help="Words that are printed.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with all texts instead.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def explain_tokens(
    run: Path,
    study_ids: Sequence[str],
    row: str | None,
    eval_set: str,
    text: Any,
    by: str | None,
    classifier: Path | None,
    top: int,
    html: Path | None,
    as_json: bool,
) -> None:
    """The words of a text by weight, heaviest first, with what the rules read in it and in its reference.

    Weights are computed anew, as a training of RUN would. Without --study: six held-out studies, drawn blind, abnormal
    ones first. Shows report text.
    """
    from radiograd.report import heat
    from radiograd.runs import find_run, write_text

    opened = find_run(run)
    settings = _settings(opened, by)
    texts = _given(opened, study_ids, row, text) if text else _predicted(opened, study_ids, row, eval_set)
    read_by, settings = _classifier(opened, settings, classifier)
    found = _weigh(opened, texts, settings, read_by)
    scale = heat.scale_of(token.weight for one in found for token in one.tokens)
    panels = [
        {**heat.panel(one.study, one.reference, one.text, one.tokens, scale), "title": one.title} for one in found
    ]
    if html:
        write_text(html, _page(opened, settings, scale, panels))
    if as_json:
        values = {"run": opened.config.name, "by": settings.by, "studies": [_as_json(one) for one in found]}
        click.echo(json.dumps(values, indent=2, ensure_ascii=False))
    elif html:
        click.echo(f"page: {html}")
    else:
        click.echo("\n\n".join(_table(one, panel, scale, top) for one, panel in zip(found, panels, strict=True)))


# ---- which texts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Text:
    """One text to look at, its study, and whose it is."""

    study: Study
    text: str
    title: str


@dataclass(frozen=True, slots=True)
class _Weighted(_Text):
    reference: str
    tokens: tuple[Token, ...]


def _predicted(run: Run, study_ids: Sequence[str], row: str | None, eval_set: str) -> list[_Text]:
    from radiograd.evaluate import read_predictions
    from radiograd.report.heat import drawn
    from radiograd.studies import read_split

    file, command = (
        run.path / "eval" / eval_set / "predictions.jsonl",
        f"radiograd generate {run.path} --set {eval_set}",
    )
    if not file.exists():
        raise RunError(f"{run.path} holds no predictions for {eval_set}; run: {command}, or give --study and --text")
    studies = read_split(run, eval_set)
    rows = read_predictions(file, studies, command)
    row = row or next((name for name in reversed(POLICIES) if name in rows), next(iter(rows)))
    if row not in rows:
        raise UsageError(f"no row of the predictions is called {row!r}.{did_you_mean(row, rows)}")
    by_id = {study.study_id: study for study in studies}
    if unknown := [one for one in study_ids if one not in by_id]:
        raise DataError(f"study {unknown[0]!r} is not in the {eval_set} set of {run.path}; name another --set")
    chosen = [by_id[one] for one in dict.fromkeys(study_ids)] or drawn(studies, run.config.seed)
    return [_Text(study, rows[row][study.study_id], row) for study in chosen]


def _given(run: Run, study_ids: Sequence[str], row: str | None, text: Any) -> list[_Text]:
    from radiograd.studies import read_split

    if row is not None:
        raise UsageError("--row names a prediction of the run; leave it out with --text")
    if len(study_ids) != 1:
        raise UsageError("--text is held against one reference; name its study with --study ID, once")
    for split in ("test", "val", "train"):
        for study in read_split(run, split):
            if study.study_id == study_ids[0]:
                return [_Text(study, _read(text), "given")]
    raise DataError(f"no study of {run.path} has the id {study_ids[0]!r}")


def _read(text: Any) -> str:
    try:
        content: str = text.read()
    except UnicodeDecodeError:
        raise DataError(f"{text.name} is not UTF-8 text; save it as UTF-8") from None
    return content.strip()


# ---- what they weigh -------------------------------------------------------------------------------------------------


def _settings(run: Run, by: str | None) -> TokenWeightConfig:
    """The run's token weights, of the kind that is asked for; combined where neither says."""
    from radiograd.config import GRPOConfig, TokenWeightConfig

    align = run.config.align
    settings = align.token_weight if isinstance(align, GRPOConfig) else TokenWeightConfig()
    kind = by or ("combined" if settings.by == "uniform" else settings.by)
    return settings.model_copy(update={"by": kind})


def _classifier(
    run: Run, settings: TokenWeightConfig, folder: Path | None
) -> tuple[FindingClassifier | None, TokenWeightConfig]:
    """Whose gradient is taken, and the settings that name it; None for weights without a gradient."""
    from radiograd.weighting import load_classifier

    if not settings.needs_classifier:
        if folder is not None:
            raise UsageError(
                f"weights by {settings.by} ask no classifier; leave --classifier out, or add --by combined"
            )
        return None, settings
    own = run.path / "classifier"
    if folder is not None:
        settings = settings.model_copy(update={"labeler": "embedded", "labeler_options": {}})
    elif settings.labeler == "embedded" and "folder" not in settings.labeler_options:
        if not own.is_dir() and run.config.trains_classifier:
            raise RunError(f"{run.path} has not trained its classifier yet; run: radiograd classifier {run.path}")
        if not own.is_dir():
            raise UsageError(
                f"{run.path} has no classifier, and weights by {settings.by} take its gradient; add --by tfidf, or "
                "--classifier FOLDER (made by: radiograd labeler train CONFIG FOLDER)"
            )
        folder = own
    return load_classifier(settings, folder), settings


def _weigh(
    run: Run, texts: Sequence[_Text], settings: TokenWeightConfig, classifier: FindingClassifier | None
) -> list[_Weighted]:
    from radiograd.models import load_tokenizer
    from radiograd.report.heat import read_tokens
    from radiograd.studies import read_split
    from radiograd.weighting import TokenWeigher, completion_of

    section = run.config.section
    tokenizer = load_tokenizer(run.config.model)
    known = [text for study in read_split(run, "train") if (text := study.sections.text(section))]
    completions = [
        completion_of(
            tokenizer,
            one.study.study_id,
            [*tokenizer(one.text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id],
        )
        for one in texts
    ]
    references = [one.study.sections.text(section) or "" for one in texts]
    weigher = TokenWeigher(settings, known, classifier=classifier, seed=run.config.seed)
    return [
        _Weighted(
            one.study,
            weighted.completion.text,
            one.title,
            reference,
            read_tokens(weighted.completion.text, weighted.spans(), one.study.study_id),
        )
        for one, reference, weighted in zip(texts, references, weigher.weigh(completions, references), strict=True)
    ]


# ---- how they are shown ----------------------------------------------------------------------------------------------


def _page(run: Run, settings: TokenWeightConfig, scale: Scale, panels: Sequence[Mapping[str, Any]]) -> str:
    from radiograd import __version__
    from radiograd.report import heat, render

    titles = {"given": "Given text", "aligned": "Aligned", "sft": "SFT"}
    values = {
        "name": run.config.name,
        "kind": heat.KINDS[settings.by],
        "section": run.config.section,
        "scale": scale.swatches(),
        "panels": [{**panel, "title": titles.get(panel["title"], panel["title"])} for panel in panels],
        "version": __version__,
    }
    return render(values, "tokens.html.j2")


def _as_json(one: _Weighted) -> dict[str, Any]:
    from radiograd.report.heat import mean_weight
    from radiograd.report.matching import match_findings

    notes = match_findings(one.reference, one.text).notes
    return {
        "study_id": one.study.study_id,
        "row": one.title,
        "reference": one.reference,
        "text": one.text,
        "tokens": [list(token) for token in one.tokens],
        "findings": [
            {"kind": note.kind, "sign": note.sign, "finding": note.text, "weight": mean_weight(one.tokens, note.spans)}
            for note in notes
        ],
    }


def _table(one: _Weighted, panel: Mapping[str, Any], scale: Scale, top: int) -> str:
    from radiograd.report.heat import word_weights
    from radiograd.report.matching import match_findings

    marks = match_findings(one.reference, one.text).candidate
    words = sorted(word_weights(one.text, one.tokens), key=lambda word: -word.weight)
    facts = "; ".join(f"{name} {value}" for name, value in panel["facts"])
    lines = [
        f"{one.study.study_id}  {panel['kind']}  {one.title}{f'  ({facts})' if facts else ''}",
        f"  reference: {' '.join(one.reference.split()) or '(none)'}",
        f"  text:      {' '.join(one.text.split()) or '(empty)'}",
        *(f"    {note['sign']:3} {note['text']}" for note in panel["notes"]),
        "",
    ]
    width = max((len(word.text) for word in words[:top]), default=0)
    for word in words[:top]:
        here = [mark for mark in marks if mark.span[0] < word.span[1] and word.span[0] < mark.span[1]]
        said = "  ".join(dict.fromkeys(f"{mark.sign or '·'} {mark.title.partition(' · ')[0]}" for mark in here))
        bar = "#" * round(_BAR * scale.place(word.weight))
        lines.append(f"  {word.weight:5.2f}  {bar:{_BAR}}  {word.text:{width}}  {said}".rstrip())
    if len(words) > top:
        lines.append(f"  ... {len(words) - top} more words (--top {len(words)})")
    return "\n".join(lines)
