"""Who may import whom, read from the source, and what importing costs, measured in a fresh process."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import radiograd

ROOT = Path(radiograd.__file__).parent
FLOORS = (
    {"errors", "types"},
    {"packing", "adapters", "norms", "lanes", "tasks"},
    {"prompt_cache"},
    {
        "naming",
        "config",
        "preferences",
        "stats",
        "rl",
        "charts",
        "worddiff",
        "tables",
        "baselines",
        "assets",
        "attention",
        "selection",
        "coverage",
        "text",
        "films",
        "lines",
        "conventions",
        "variety",
    },
    {"clients", "prompts", "runs", "choice_figures", "data", "models", "encoders", "formats", "tally"},
    {"decoding", "doctor", "labelers", "judges", "scorefile", "studies"},
    {"metrics", "greedy", "sampled", "weighting"},
    {"rewards", "probes", "monitor"},
    {"annotate", "selecting", "train", "pairs", "generate", "evaluate", "report", "scoring", "compare"},
    {"exploration"},
    {"stages", "bench"},
    {"experiments"},
    {"cli_text", "cli_bench", "cli_score"},
    {"cli_labeler", "cli_judge", "cli_reward", "cli_experiment", "cli_explain", "cli_films"},
    {"cli"},
)
"""Rooms of the house from the ground up: a room imports from floors below its own only."""
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
PROGRAMS = {"annotate", "selecting", "train", "pairs", "generate", "evaluate", "report", "scoring", "compare"}
"""They meet through files and never import one another."""

HEAVY = {
    "PIL",
    "accelerate",
    "datasets",
    "gguf",
    "httpx2",
    "nltk",
    "pandas",
    "peft",
    "pyarrow",
    "pydicom",
    "safetensors",
    "scipy",
    "sklearn",
    "torch",
    "transformers",
    "trl",
}
LIGHT_MODULES = (
    "radiograd",
    "radiograd.adapters",
    "radiograd.annotate",
    "radiograd.assets",
    "radiograd.attention",
    "radiograd.baselines",
    "radiograd.bench.bertscore",
    "radiograd.bench.bertscore_peer",
    "radiograd.bench.growth",
    "radiograd.bench.label",
    "radiograd.bench.medspacy_peer",
    "radiograd.bench.policy",
    "radiograd.bench.score",
    "radiograd.choice_figures",
    "radiograd.cli",
    "radiograd.cli_bench",
    "radiograd.cli_experiment",
    "radiograd.cli_explain",
    "radiograd.cli_films",
    "radiograd.cli_judge",
    "radiograd.cli_labeler",
    "radiograd.cli_reward",
    "radiograd.cli_score",
    "radiograd.cli_text",
    "radiograd.clients",
    "radiograd.compare",
    "radiograd.config",
    "radiograd.config.alignment",
    "radiograd.config.data",
    "radiograd.config.loading",
    "radiograd.config.model",
    "radiograd.config.run",
    "radiograd.config.section",
    "radiograd.config.selection",
    "radiograd.conventions",
    "radiograd.coverage",
    "radiograd.data.check",
    "radiograd.data.chexpert_plus",
    "radiograd.data.describe",
    "radiograd.data.films",
    "radiograd.data.layout",
    "radiograd.data.mimic",
    "radiograd.data.openi",
    "radiograd.data.openi_films",
    "radiograd.data.padchest",
    "radiograd.data.prepare",
    "radiograd.data.priors",
    "radiograd.data.r2gen",
    "radiograd.data.rexgradient",
    "radiograd.data.sites",
    "radiograd.data.splits",
    "radiograd.data.table",
    "radiograd.data.views",
    "radiograd.doctor",
    "radiograd.encoders",
    "radiograd.evaluate",
    "radiograd.exploration",
    "radiograd.experiments",
    "radiograd.experiments.estimates",
    "radiograd.experiments.paper",
    "radiograd.experiments.plan",
    "radiograd.experiments.preferring",
    "radiograd.experiments.running",
    "radiograd.experiments.sharing",
    "radiograd.experiments.showing",
    "radiograd.experiments.table",
    "radiograd.films",
    "radiograd.films.cache",
    "radiograd.films.check",
    "radiograd.films.decode",
    "radiograd.films.dicom",
    "radiograd.films.film",
    "radiograd.films.fit",
    "radiograd.films.grey",
    "radiograd.films.index",
    "radiograd.films.pictures",
    "radiograd.films.quiet",
    "radiograd.films.workers",
    "radiograd.formats",
    "radiograd.formats.documents",
    "radiograd.formats.files",
    "radiograd.formats.record",
    "radiograd.formats.spreadsheets",
    "radiograd.formats.streams",
    "radiograd.generate",
    "radiograd.greedy",
    "radiograd.judges",
    "radiograd.judges.agreement",
    "radiograd.judges.asking",
    "radiograd.judges.builtin",
    "radiograd.judges.cache",
    "radiograd.judges.chat",
    "radiograd.judges.conflicts",
    "radiograd.judges.counting",
    "radiograd.judges.local",
    "radiograd.judges.protocol",
    "radiograd.judges.replies",
    "radiograd.judges.rules",
    "radiograd.labelers",
    "radiograd.labelers.builtin",
    "radiograd.labelers.chexbert",
    "radiograd.labelers.child",
    "radiograd.labelers.classifier",
    "radiograd.labelers.embedded",
    "radiograd.labelers.process",
    "radiograd.labelers.protocol",
    "radiograd.labelers.rules",
    "radiograd.lanes",
    "radiograd.lines",
    "radiograd.metrics",
    "radiograd.metrics.bertscore",
    "radiograd.metrics.bleu",
    "radiograd.metrics.cider",
    "radiograd.metrics.consistency",
    "radiograd.metrics.external",
    "radiograd.metrics.factgraph",
    "radiograd.metrics.fidelity",
    "radiograd.metrics.green",
    "radiograd.metrics.label_f1",
    "radiograd.metrics.length_ratio",
    "radiograd.metrics.meteor",
    "radiograd.metrics.of_section",
    "radiograd.metrics.porter",
    "radiograd.metrics.radcliq",
    "radiograd.metrics.radgraph",
    "radiograd.metrics.ratescore",
    "radiograd.metrics.report_format",
    "radiograd.metrics.rouge",
    "radiograd.metrics.sembscore",
    "radiograd.metrics.statements",
    "radiograd.metrics.tfidf_overlap",
    "radiograd.metrics.tools",
    "radiograd.models",
    "radiograd.monitor",
    "radiograd.norms",
    "radiograd.packing",
    "radiograd.pairs",
    "radiograd.pairs.imports",
    "radiograd.pairs.judging",
    "radiograd.pairs.pairing",
    "radiograd.pairs.sampling",
    "radiograd.pairs.statistics",
    "radiograd.preferences",
    "radiograd.probes",
    "radiograd.prompt_cache",
    "radiograd.prompts",
    "radiograd.report",
    "radiograd.report.cases",
    "radiograd.report.chosen",
    "radiograd.report.collapse",
    "radiograd.report.conclusion",
    "radiograd.report.curves",
    "radiograd.report.differences",
    "radiograd.report.evidence",
    "radiograd.report.findings",
    "radiograd.report.guard",
    "radiograd.report.heat",
    "radiograd.report.inputs",
    "radiograd.report.matching",
    "radiograd.report.pairs",
    "radiograd.report.profile",
    "radiograd.report.provenance",
    "radiograd.report.results",
    "radiograd.report.systems",
    "radiograd.report.wording",
    "radiograd.rewards",
    "radiograd.rewards.builtin",
    "radiograd.rewards.building",
    "radiograd.rewards.check",
    "radiograd.rewards.engine",
    "radiograd.rewards.explain",
    "radiograd.rewards.groups",
    "radiograd.rewards.terms",
    "radiograd.runs",
    "radiograd.sampled",
    "radiograd.scorefile",
    "radiograd.scoring",
    "radiograd.selecting",
    "radiograd.selecting.choice",
    "radiograd.selecting.describing",
    "radiograd.selecting.diverse",
    "radiograd.selecting.gates",
    "radiograd.selecting.predicting",
    "radiograd.selecting.rollouts",
    "radiograd.selecting.scoring",
    "radiograd.stages",
    "radiograd.stats",
    "radiograd.studies",
    "radiograd.tables",
    "radiograd.tally",
    "radiograd.tasks",
    "radiograd.text.assertion",
    "radiograd.text.clauses",
    "radiograd.text.edits",
    "radiograd.text.explain",
    "radiograd.text.findings",
    "radiograd.text.generated",
    "radiograd.text.graph",
    "radiograd.text.graph_f1",
    "radiograd.text.headers",
    "radiograd.text.labels",
    "radiograd.text.lexicon",
    "radiograd.text.measures",
    "radiograd.text.mesh",
    "radiograd.text.phrases",
    "radiograd.text.rarity",
    "radiograd.text.sections",
    "radiograd.text.sentences",
    "radiograd.text.urgent",
    "radiograd.text.words",
    "radiograd.variety",
    "radiograd.weighting",
    "radiograd.weighting.agreement",
    "radiograd.weighting.completion",
    "radiograd.weighting.gradients",
    "radiograd.weighting.layout",
    "radiograd.weighting.offsets",
    "radiograd.weighting.tfidf",
    "radiograd.weighting.weigher",
)
IMPORTED_BY_THOSE = {
    "charts",
    "data",
    "data.builtin",
    "decoding",
    "errors",
    "metrics.builtin",
    "naming",
    "types",
    "worddiff",
}
SOURCES = sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    """Module path below the package, dotted; "" for the package itself."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def imports(path: Path, *, everywhere: bool = True) -> Iterator[str]:
    """Absolute names a file imports, also inside functions unless not ``everywhere``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else at_import_time(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_import_time(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that is run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from at_import_time(child)


def room_of(name: str) -> str:
    return name.partition(".")[0]


def rooms_imported(path: Path) -> set[str]:
    """Rooms of our own that a file imports; names that the package itself offers belong to none."""
    ours = [name.split(".")[1] for name in imports(path) if name.startswith("radiograd.")]
    return {room for room in ours if room not in radiograd.__all__}


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(name_of(path)) for path in SOURCES} - {""}
    assert rooms == set(FLOOR)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: name_of(path) or "radiograd")
def test_imports_go_down_or_stay_in_the_room(path: Path) -> None:
    room = room_of(name_of(path))
    floor = FLOOR.get(room, 1)  # the package itself may import from the ground floor
    upward = {other for other in rooms_imported(path) if other != room and FLOOR[other] >= floor}
    assert not upward, f"{room} (floor {floor}) imports {upward}"


@pytest.mark.parametrize("room", sorted(PROGRAMS))
def test_programs_never_import_one_another(room: str) -> None:
    files = [path for path in SOURCES if room_of(name_of(path)) == room]
    assert files
    assert not set().union(*(rooms_imported(path) for path in files)) & (PROGRAMS - {room})


def test_trl_is_touched_in_train_only() -> None:
    users = {room_of(name_of(path)) for path in SOURCES if "trl" in {room_of(name) for name in imports(path)}}
    assert users == {"train"}


def test_heavy_libraries_are_imported_inside_functions_except_where_tensors_are_the_point() -> None:
    early = {
        name_of(path): heavy
        for path in SOURCES
        if (heavy := {room_of(name) for name in imports(path, everywhere=False)} & HEAVY)
    }
    assert {room_of(name) for name in early} <= {"train", "rl"}, early


# ---- what importing really loads -------------------------------------------------------------------------------------


def loaded_after(code: str) -> set[str]:
    """Top-level names of heavy libraries a fresh process holds after running ``code``."""
    ending = f"\nimport sys\nprint('HEAVY', *sorted({{m.partition('.')[0] for m in sys.modules}} & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code + ending], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("HEAVY")[2].split())


def test_text_and_scoring_modules_load_no_heavy_library() -> None:
    assert loaded_after("".join(f"import {name}\n" for name in LIGHT_MODULES)) == set()


def test_the_list_of_light_modules_is_whole() -> None:
    light = {path for path in SOURCES if room_of(name_of(path)) not in {"train", "rl"}}
    pure = {
        "",
        "bench",
        "charts",
        "data.builtin",
        "data",
        "decoding",
        "errors",
        "metrics.builtin",
        "naming",
        "selection",
        "text",
        "types",
        "worddiff",
    }
    assert {name_of(path) for path in light} - pure == {name.partition(".")[2] for name in LIGHT_MODULES} - {""}


def test_importing_the_package_loads_only_the_ground_floor() -> None:
    code = "import radiograd, sys; print('OURS', *sorted(m for m in sys.modules if m.startswith('radiograd.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["OURS", "radiograd.errors", "radiograd.types"]


def test_help_loads_neither_a_heavy_library_nor_numpy_nor_pydantic() -> None:
    code = (
        "import sys\nfrom radiograd import cli\n"
        "cli._call(lambda: cli.cli.main(args=['--help'], standalone_mode=False))\n"
        "assert not {'numpy', 'pydantic', 'yaml', 'jinja2'} & set(sys.modules)\n"
    )
    assert loaded_after(code) == set()


def test_looking_at_data_and_scoring_load_no_heavy_library_but_nltk(tmp_path: Path) -> None:
    # rouge-score itself imports nltk, for its stemmer
    (tmp_path / "two.csv").write_text(
        "study_id,findings,impression\na,Lungs are clear.,Normal.\nb,Heart is large.,Big heart.\n", encoding="utf-8"
    )
    code = (
        "from radiograd import Case, Sections, Study, cli\n"
        f"args = ['data', 'describe', {str(tmp_path / 'two.csv')!r}]\n"
        "assert cli._call(lambda: cli.cli.main(args=args, standalone_mode=False)) == 0\n"
        "from radiograd.metrics import load_metric\n"
        "from radiograd.metrics import prepare\n"
        "from radiograd.metrics.builtin import RULES\n"
        "text = 'Small left effusion.'\n"
        "case = Case(Study('s', 'p', 'x', Sections(text, text)), text)\n"
        "metrics = [load_metric(name) for name in RULES]\n"
        "prepare(metrics, [text, 'Normal heart.'])\n"
        "assert all(metric.score([case])[0].value is not None for metric in metrics)\n"
    )
    assert loaded_after(code) <= {"nltk"}
