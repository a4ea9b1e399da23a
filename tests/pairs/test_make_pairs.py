"""A tiny policy samples, a known judge answers, the program is stopped at every point and goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from tests import tiny
from tests.pairs.judge_fake import Shorter

from radiograd import models
from radiograd.config import RunConfig
from radiograd.decoding import decode
from radiograd.errors import JudgeError
from radiograd.pairs import make_pairs
from radiograd.pairs.judging import judge_candidates
from radiograd.pairs.pairing import contestants
from radiograd.pairs.sampling import Candidates, draw_studies, sample_candidates
from radiograd.preferences import Pair, normalised, parse_pairs
from radiograd.prompts import Prompter
from radiograd.runs import Run, read_json, read_jsonl, write_jsonl
from radiograd.types import Sections, Study

STUDIES = tiny.studies(14, seed=5)
TRAIN, HELD_OUT = STUDIES[:10], STUDIES[10:]


def run_of(folder: Path, model: Path, **align: Any) -> Run:
    """A run with data and adapters of the SFT policy and of round 0, which write differently."""
    values = {
        "model": {"name": str(model), "dtype": "float32", "device": "cpu", "lora": {"rank": 4, "alpha": 8}},
        "align": {
            "type": "dpo",
            "judge": "tests.pairs.judge_fake:Shorter",
            "candidates": 3,
            "max_new_tokens": 8,
            "rounds": 2,
            **align,
        },
        "generate": {"batch_size": 12},
    }
    run = Run(folder, RunConfig.model_validate(values))
    for name, studies in (("train", TRAIN), ("pool", TRAIN), ("val", HELD_OUT[:2]), ("test", HELD_OUT[2:])):
        write_jsonl(folder / "data" / f"{name}.jsonl", [study.to_json() for study in studies])
    for seed, where in enumerate((folder / "sft" / "adapter", folder / "align" / "round_0000" / "adapter")):
        policy = get_peft_model(models.load_policy(run.config.model), models.lora_config(run.config.model.lora))
        generator = torch.Generator().manual_seed(seed)
        for name, weight in policy.named_parameters():
            if "lora_" in name:
                weight.data = torch.randn(weight.shape, generator=generator) * 0.5
        policy.save_pretrained(str(where))
    return run


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any]]:
    run = run_of(tmp_path_factory.mktemp("pairs"), tiny_model)
    return run, make_pairs(run)


def candidates(run: Run, number: int = 0) -> dict[str, list[str]]:
    path = run.path / "pairs" / f"round_{number:04d}" / "candidates.jsonl"
    return {row["study_id"]: row["texts"] for row in read_jsonl(path)}


def pairs_in(run: Run) -> list[Pair]:
    return list(parse_pairs(lines_of(run.path / "pairs.jsonl")).pairs)


def lines_of(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return list(file)


# ---- what is made ----------------------------------------------------------------------------------------------------


def test_every_training_study_gets_its_candidates_and_the_longest_loses(finished: tuple[Run, dict[str, Any]]) -> None:
    run, facts = finished
    texts = candidates(run)
    assert sorted(texts) == sorted(study.study_id for study in TRAIN)
    assert {len(found) for found in texts.values()} == {3}
    by_id = {study.study_id: study for study in TRAIN}
    pairs = pairs_in(run)
    assert len(pairs) == facts["statistics"]["pairs"] > 5
    for pair in pairs:
        assert pair.chosen == by_id[pair.study_id].sections.impression
        different = [texts[pair.study_id][place] for place in contestants(texts[pair.study_id])]
        assert len(pair.rejected) == max(map(len, different))
        assert pair.provenance["judge"] == "judge=shorter"
        assert pair.provenance["prompt_hash"] == "0123456789ab"
        assert texts[pair.study_id][pair.provenance["candidate"]] == pair.rejected


def test_the_facts_account_for_every_study(finished: tuple[Run, dict[str, Any]]) -> None:
    _, facts = finished
    assert (facts["studies"], facts["candidates"], facts["unscored"], facts["imported"]) == (10, 30, 0, 0)
    assert facts["statistics"]["pairs"] + sum(facts["without_pair"].values()) == 10
    assert facts["ties"] == facts["without_pair"].get("tie", 0)
    assert facts["sources"] == {"reference over judge_loser": facts["statistics"]["pairs"]}
    assert facts["signature"] == "judge=shorter"


def test_a_candidate_is_a_sample_of_the_sft_policy_and_of_the_last_round_later(
    finished: tuple[Run, dict[str, Any]], tmp_path: Path
) -> None:
    run, _ = finished
    first = pairs_in(run)
    before = dict(candidates(run))
    make_pairs(run, 1)
    after = candidates(run, 1)
    assert before.keys() == after.keys()
    assert sum(before[key] == after[key] for key in before) < 3
    both = pairs_in(run)
    assert [pair for pair in both if pair.round == 0] == first
    assert {pair.round for pair in both} == {0, 1}
    make_pairs(run, 1)  # once more: the same file
    assert pairs_in(run) == both


def test_candidates_follow_the_policys_distribution(tiny_model: Path, tmp_path: Path) -> None:
    # cold: every candidate is the greedy text
    run = run_of(tmp_path, tiny_model, temperature=1e-4)
    found = sample_candidates(run, TRAIN[:2], 0, tmp_path / "candidates.jsonl")
    tokenizer = models.load_tokenizer(run.config.model)
    model = models.load_policy(run.config.model, merged=[tmp_path / "sft" / "adapter"])
    prompter = Prompter(tokenizer, run.config.model, "findings_to_impression")
    for study in TRAIN[:2]:
        ids = prompter.ids(prompter.prompt(study).content)
        (greedy,) = decode(model, [ids], max_new_tokens=8, eos=[tokenizer.eos_token_id], pad=0)
        text = tokenizer.decode(greedy, skip_special_tokens=True).strip()
        assert found[study.study_id].texts == (text,) * 3
        assert found[study.study_id].cut == (greedy[-1] != tokenizer.eos_token_id,) * 3


# ---- stopped and started ---------------------------------------------------------------------------------------------


def test_stopped_at_any_point_it_goes_on_to_the_same_pairs(
    finished: tuple[Run, dict[str, Any]], tiny_model: Path, tmp_path: Path
) -> None:
    whole, expected = finished
    folder = whole.path / "pairs" / "round_0000"
    lines, judged = lines_of(folder / "candidates.jsonl"), lines_of(folder / "preferences.jsonl")
    wanted = [pair for pair in pairs_in(whole) if pair.round == 0]
    # batches of 12 // 3 = 4 studies: nothing, one batch, half a batch more, a torn line; then inside the judging
    stopped = [
        *((part, "") for part in ("", "".join(lines[:4]), "".join(lines[:6]), "".join(lines[:8]) + lines[8][:9])),
        ("".join(lines), "".join(judged[:3]) + judged[3][:12]),
    ]
    for k, (sampled, answered) in enumerate(stopped):
        run = run_of(tmp_path / str(k), tiny_model)
        here = run.path / "pairs" / "round_0000"
        here.mkdir(parents=True)
        (here / "candidates.jsonl").write_text(sampled, encoding="utf-8")
        (here / "preferences.jsonl").write_text(answered, encoding="utf-8")
        facts = make_pairs(run)
        assert facts == expected
        assert pairs_in(run) == wanted
        assert (here / "candidates.jsonl").read_text(encoding="utf-8") == "".join(lines)
        shutil.rmtree(run.path)


def test_a_finished_part_is_not_done_again(
    finished: tuple[Run, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, expected = finished

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a policy was loaded")

    monkeypatch.setattr("radiograd.models.load_policy", never)
    monkeypatch.setattr(Shorter, "prefer", never)
    assert make_pairs(run) == expected


# ---- the judge -------------------------------------------------------------------------------------------------------


def judged_of(
    judge: Shorter, path: Path, texts: list[tuple[str, ...]], **align: Any
) -> tuple[dict[str, Any], RunConfig]:
    config = RunConfig.model_validate({"align": {"type": "dpo", **align}})
    studies = [
        Study(f"s{k}", "", "test", Sections(findings=f"Findings {k}.", impression="Own words."))
        for k in range(len(texts))
    ]
    sampled = {f"s{k}": Candidates(some, (False,) * len(some), False) for k, some in enumerate(texts)}
    return judge_candidates(judge, studies, sampled, config.dpo, path), config


def test_the_judge_sees_every_two_different_candidates_once(tmp_path: Path) -> None:
    judge = Shorter()
    texts = [("aaa", "bb", "AAA", "c"), ("same", "Same."), ("dd", "ee")]
    found, _ = judged_of(judge, tmp_path / "p.jsonl", texts)
    assert [(duel.study_id, duel.a, duel.b, duel.reference) for duel in judge.asked] == [
        ("s0", "aaa", "bb", "Own words."),
        ("s0", "aaa", "c", "Own words."),
        ("s0", "bb", "c", "Own words."),
        ("s2", "dd", "ee", "Own words."),
    ]
    assert (found["s0"].loser, found["s0"].winner) == (0, 3)
    assert found.keys() == {"s0", "s2"}
    # ties of a judge that contradicts itself: nobody loses
    assert (found["s2"].loser, found["s2"].contradicted, found["s2"].why) == (None, 1, None)


def test_the_reference_can_be_kept_from_the_judge(tmp_path: Path) -> None:
    judge = Shorter()
    judged_of(judge, tmp_path / "p.jsonl", [("aaa", "b")], judge_sees_reference=False)
    assert [duel.reference for duel in judge.asked] == [None]


def test_too_much_unscored_stops_the_run_and_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    texts = [("aaa", "b")] * 5
    with pytest.raises(JudgeError, match=r"left 2 studies unscored, of 5 asked and 5 in all; .*2 x the endpoint does"):
        judged_of(Shorter(broken=2), path, texts)
    judge = Shorter()
    found, _ = judged_of(judge, path, texts)
    assert [duel.study_id for duel in judge.asked] == ["s0", "s1"]  # the three answers were kept
    assert all(one.loser == 0 for one in found.values())


def test_a_little_unscored_is_counted_and_gives_no_pair(tmp_path: Path) -> None:
    found, _ = judged_of(Shorter(broken=1), tmp_path / "p.jsonl", [("aaa", "b")] * 5, max_unscored=0.2)
    assert [one.why for one in found.values()] == ["the endpoint does not answer", None, None, None, None]
    assert found["s0"].loser is None


def test_answers_to_other_texts_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    judged_of(Shorter(), path, [("aaa", "b")])
    judge = Shorter()
    judged_of(judge, path, [("aaaa", "b")])
    assert len(judge.asked) == 1


# ---- which studies, and what is mixed in -----------------------------------------------------------------------------


def test_rounds_draw_other_studies_and_redacted_references_are_left_out() -> None:
    redacted = Study("r1", "", "test", Sections(findings="Clear.", impression="Seen by Dr. XXXX."))
    config = RunConfig.model_validate({"align": {"type": "dpo", "prompts": 4}})
    drawn = [{s.study_id for s in draw_studies([*TRAIN, redacted], config, number)} for number in range(6)]
    assert all(len(some) == 4 and "r1" not in some for some in drawn)
    assert len({frozenset(some) for some in drawn}) > 3
    assert drawn[0] == {s.study_id for s in draw_studies([redacted, *TRAIN[::-1]], config, 0)}
    everything = RunConfig.model_validate({"align": {"type": "dpo"}})
    assert draw_studies([*TRAIN, redacted], everything, 0) == TRAIN


def test_imported_pairs_alone_need_no_policy_and_no_judge(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "edits.jsonl"
    rows = [
        {"study_id": TRAIN[0].study_id, "draft": "Clear.", "final": "Left nodule."},
        {"study_id": HELD_OUT[0].study_id, "draft": "Clear.", "final": "Left nodule."},
        {"study_id": HELD_OUT[3].study_id, "draft": "Clear.", "final": "Left nodule."},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    imports = [{"path": str(path), "kind": "edits", "weight": 2.0}]
    run = run_of(tmp_path / "run", tiny_model, prompts=0, imports=imports)
    shutil.rmtree(run.path / "sft")
    facts = make_pairs(run)
    (pair,) = pairs_in(run)
    assert (pair.study_id, pair.chosen, pair.rejected, pair.weight) == ("s0000", "Left nodule.", "Clear.", 2.0)
    assert (facts["studies"], facts["imported"], facts["import_problems"]) == (0, 1, 2)
    assert facts["signature"] is None
    problems = list(read_jsonl(run.path / "pairs" / "round_0000" / "problems.jsonl"))
    assert [row["where"] for row in problems] == [f"{path}:2", f"{path}:3"]
    assert all("held out" in row["why"] for row in problems)


def test_no_report_text_stands_in_the_facts(finished: tuple[Run, dict[str, Any]]) -> None:
    run, facts = finished
    stored = json.dumps(facts) + json.dumps(read_json(run.path / "pairs" / "round_0000" / "made.json"))
    texts = [text for some in candidates(run).values() for text in some]
    assert not [text for text in texts if len(normalised(text)) > 12 and text in stored]
