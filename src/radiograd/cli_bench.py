"""``radiograd bench`` (ours against a peer, both sides in one run) and ``radiograd probe``. Added by ``cli``."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import click


def add_commands(cli: click.Group) -> None:
    """Add bench and probe to the command line."""
    cli.add_command(probe)
    cli.add_command(bench)


@click.group()
def bench() -> None:
    """Measure ours against a peer in one run: one JSON object with both sides and their ratio."""


@bench.command("label", epilog="Example: radiograd bench label --peer-python medspacy/bin/python")
@click.option(
    "--peer-python",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Python of an environment that holds medspaCy; without it ours is measured alone.",
)
@click.option(
    "--reports",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help='JSON lines {"id", "text"} to label; without it, all OpenI reports (radiograd fetch openi).',
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many reports.")
def bench_label(peer_python: Path | None, reports: Path | None, limit: int | None) -> None:
    """Reports labelled per second on one core, against medspaCy (one process each, start-up not counted)."""
    from radiograd.bench.label import measure

    if peer_python is None:
        click.echo(
            "ours alone; for the ratio: python3 -m venv medspacy; medspacy/bin/pip install medspacy; "
            "radiograd bench label --peer-python medspacy/bin/python",
            err=True,
        )

    click.echo(json.dumps(measure(peer_python, reports, limit), indent=2))


PROMPTS = click.option("--prompts", type=click.IntRange(min=1), default=4, show_default=True, help="Prompts (P).")
GROUP = click.option("--group", type=click.IntRange(min=2), default=8, show_default=True, help="Completions each (G).")
NEW_TOKENS = click.option("--new-tokens", type=click.IntRange(min=1), default=48, show_default=True)
REPEATS = click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Timed runs.")
MODEL = click.option("--model", help="A hub id or folder; without it, SmolLM2-135M (radiograd fetch smollm2).")


@bench.command("update", epilog="Example: radiograd bench update --group 16")
@PROMPTS
@GROUP
@NEW_TOKENS
@REPEATS
@MODEL
def bench_update(prompts: int, group: int, new_tokens: int, repeats: int, model: str | None) -> None:
    """Log-probabilities of a rollout and their gradient, against TRL's own. Needs: radiograd fetch openi."""
    from radiograd.bench import policy

    shape = policy.Shape(prompts, group, new_tokens, repeats)
    click.echo(json.dumps(policy.update(shape, _model(model)), indent=2))


@bench.command("rollout", epilog="Example: radiograd bench rollout --group 16")
@PROMPTS
@GROUP
@NEW_TOKENS
@REPEATS
@MODEL
def bench_rollout(prompts: int, group: int, new_tokens: int, repeats: int, model: str | None) -> None:
    """Sampling one rollout, against transformers' generate. Needs: radiograd fetch openi."""
    from radiograd.bench import policy

    shape = policy.Shape(prompts, group, new_tokens, repeats)
    click.echo(json.dumps(policy.rollout(shape, _model(model)), indent=2))


@bench.command("step", epilog="Example: radiograd bench step")
@PROMPTS
@GROUP
@NEW_TOKENS
@click.option("--rollouts", type=click.IntRange(min=1), default=2, show_default=True, help="Timed rollouts a side.")
@MODEL
def bench_step(prompts: int, group: int, new_tokens: int, rollouts: int, model: str | None) -> None:
    """Whole steps (sampling, reward, updates), against TRL's own trainer. Needs: radiograd fetch openi."""
    from radiograd.bench import policy

    shape = policy.Shape(prompts, group, new_tokens)
    click.echo(json.dumps(policy.step(shape, _model(model), rollouts), indent=2))


@bench.command("grow", epilog="Example: radiograd bench grow --along group --plot group.svg > group.jsonl")
@click.option(
    "--along",
    type=click.Choice(["group", "prompt_tokens", "completion_tokens", "model"]),
    default="group",
    show_default=True,
)
@REPEATS
@click.option("--plot", "plot_file", type=click.Path(path_type=Path, dir_okay=False), help="Write a figure (SVG).")
def bench_grow(along: str, repeats: int, plot_file: Path | None) -> None:
    """How the cost of an update grows, ours and TRL's: a line of JSON a point. Random tokens and weights."""
    _quietly()
    from radiograd.bench import growth

    found = []
    for point in growth.grow(along, repeats):
        found.append(point)
        click.echo(json.dumps(point))
    if plot_file is not None:
        plot_file.write_text(growth.plot(found), encoding="utf-8")


def _quietly() -> None:
    # transformers 5.23 warns of names that TRL 1.16 still uses; nothing a user could do about it
    warnings.filterwarnings("ignore", message=".*deprecated.*", category=FutureWarning)


def _model(name: str | None) -> Any:
    _quietly()
    from radiograd.config import RunConfig

    return None if name is None else RunConfig().model.model_copy(update={"name": name})


@bench.command("score", epilog="Example: radiograd bench score")
@click.option("--pairs", type=click.IntRange(min=1), default=1000, show_default=True, help="Report pairs from OpenI.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--bertscore-python",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Python of an environment that holds bert_score: then BERTScore is measured too (radiograd fetch minilm).",
)
def bench_score(pairs: int, repeats: int, bertscore_python: Path | None) -> None:
    """Pairs scored per second on one core, against rouge_score and sacreBLEU as they come."""
    from radiograd.bench.score import measure

    click.echo(json.dumps(measure(pairs, repeats, bertscore_python), indent=2))


@click.command(epilog="Example: radiograd probe --metrics rougeL,label_f1_14,fidelity --told paraphrase")
@click.option("--metrics", default="", help="Comma-separated names; without it, every metric that needs no weights.")
@click.option(
    "--reports",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help='JSON lines {"id", "text"}; without it, impressions of abnormal OpenI studies (radiograd fetch openi).',
)
@click.option("--limit", type=click.IntRange(min=1), default=300, show_default=True, help="Only the first so many.")
@click.option(
    "--told",
    type=click.Choice(["paraphrase", "reordering"]),
    help="Compare each harmful edit with the true report told in other words, instead of with itself.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per metric and edit.")
def probe(metrics: str, reports: Path | None, limit: int, told: str | None, as_json: bool) -> None:
    """Which metric sees which mistake: the true report against harmful and harmless edits of it.

    A cell is the share of reports (x 100) in which the true report is ranked above the edit; bold where that is nearly
    always. For harmless edits (reordering, paraphrase) it is the share of the score that is left.
    """
    from dataclasses import asdict

    from radiograd import probes
    from radiograd.metrics import load_metric
    from radiograd.metrics.builtin import RULES

    names = [name.strip() for name in metrics.split(",") if name.strip()] or list(RULES)
    texts = probes.references(reports, limit, lambda complaint: click.echo(complaint, err=True))
    found = probes.probe(texts, {name: load_metric(name) for name in names}, told=told)
    if as_json:
        for one in found:
            click.echo(json.dumps(asdict(one)))
    else:
        click.echo(probes.markdown(found))
