from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiograd import models
from radiograd.config import ModelConfig
from radiograd.errors import ConfigError, DataError, ModelError
from radiograd.prompts import Prompter, alignable, imitable
from radiograd.types import Sections, Study
from tests import tiny

SYSTEM = "Write the impression."


def _study(findings: str | None) -> Study:
    return Study("s1", "p1", "synthetic", Sections(findings=findings, impression="Clear."))


@pytest.fixture(scope="module")
def chat(tiny_model: Path) -> Prompter:
    return _prompter(tiny_model)


@pytest.fixture(scope="module")
def plain(plain_model: Path) -> Prompter:
    return _prompter(plain_model)


def _prompter(folder: Path, room: int = 200) -> Prompter:
    config = ModelConfig(name=str(folder), system_prompt=SYSTEM, max_prompt_tokens=room)
    return Prompter(models.load_tokenizer(config), config, "findings_to_impression")


def _frame(prompter: Prompter) -> int:
    return len(prompter.ids(prompter.prompt(_study("")).content))


def test_a_chat_model_gets_the_instruction_as_system_turn_and_the_findings_as_user_turn(chat: Prompter) -> None:
    prompt = chat.prompt(_study("  The lungs are clear.\n"))
    assert prompt.content == [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": "Findings: The lungs are clear."},
    ]
    text = chat.tokenizer.decode(chat.ids(prompt.content))
    assert text == f"<|system|>{SYSTEM}<|end|><|user|>Findings: The lungs are clear.<|end|><|assistant|>"
    assert not prompt.cut


def test_a_model_without_a_chat_template_gets_one_plain_text(plain: Prompter) -> None:
    prompt = plain.prompt(_study("The lungs are clear."))
    assert prompt.content == f"{SYSTEM}\n\nFindings: The lungs are clear.\n\nImpression:"
    assert plain.tokenizer.decode(plain.ids(prompt.content)) == prompt.content


REFUSALS = {
    "by an error of its own": "{{ raise_exception('System role not supported') }}",
    "by tripping over it": "{{ missing.part }}",
}


@pytest.fixture(scope="module", params=REFUSALS)
def without_system(request: pytest.FixtureRequest, tiny_model: Path) -> Prompter:
    """A model whose chat template takes no system turn."""
    config = ModelConfig(name=str(tiny_model), system_prompt=SYSTEM, max_prompt_tokens=200)
    tokenizer = models.load_tokenizer(config)
    refusal = REFUSALS[request.param]
    tokenizer.chat_template = f"{{% if messages[0].role == 'system' %}}{refusal}{{% endif %}}{tiny.CHAT_TEMPLATE}"
    return Prompter(tokenizer, config, "findings_to_impression")


def test_a_template_that_refuses_a_system_turn_gets_the_instruction_in_the_user_turn(without_system: Prompter) -> None:
    prompt = without_system.prompt(_study("The lungs are clear."))
    said = f"{SYSTEM}\n\nFindings: The lungs are clear."
    assert prompt.content == [{"role": "user", "content": said}]
    assert without_system.tokenizer.decode(without_system.ids(prompt.content)) == f"<|user|>{said}<|end|><|assistant|>"


def test_a_template_that_refuses_every_turn_is_told(tiny_model: Path) -> None:
    config = ModelConfig(name=str(tiny_model))
    tokenizer = models.load_tokenizer(config)
    tokenizer.chat_template = "{{ raise_exception('only tools') }}"
    with pytest.raises(ModelError, match="refuses a single user turn"):
        Prompter(tokenizer, config, "findings_to_impression")


@pytest.mark.parametrize("kind", ["chat", "plain"])
def test_prompt_ids_are_those_that_grpo_samples_from(kind: str, request: pytest.FixtureRequest) -> None:
    _assert_sampled_from(request.getfixturevalue(kind))


def test_prompt_ids_without_a_system_turn_are_those_that_grpo_samples_from(without_system: Prompter) -> None:
    _assert_sampled_from(without_system)


def _assert_sampled_from(prompter: Prompter) -> None:
    from trl import GRPOTrainer

    bare = SimpleNamespace(  # what GRPOTrainer._tokenize_prompts reads of a trainer, and nothing else
        processing_class=prompter.tokenizer,
        chat_template=None,
        chat_template_kwargs={},
        tools=None,
        environment_factories=None,
        _is_vlm=False,
    )
    contents = [prompter.prompt(_study(text)).content for text in ("The lungs are clear.", "A nodule — 4 mm.")]
    ids, images, _ = GRPOTrainer._tokenize_prompts(bare, contents)
    assert ids == [prompter.ids(content) for content in contents]
    assert images is None


@pytest.mark.parametrize("kind", ["chat", "plain"])
def test_a_training_row_reads_as_prompt_answer_end(kind: str, request: pytest.FixtureRequest) -> None:
    prompter: Prompter = request.getfixturevalue(kind)
    prompt = prompter.ids(prompter.prompt(_study("The lungs are clear.")).content)
    target = prompter.target_ids("  No acute abnormality. ")
    blank = "" if kind == "chat" else " "
    assert prompter.tokenizer.decode(target) == f"{blank}No acute abnormality.<|end|>"
    assert target[-1] == prompter.tokenizer.eos_token_id
    assert target.count(target[-1]) == 1
    assert prompter.tokenizer.decode(prompt + target).endswith("No acute abnormality.<|end|>")


def test_a_training_row_is_the_prompt_ids_and_then_the_target_ids(chat: Prompter) -> None:
    pytest.importorskip("trl")
    from radiograd.train.sft import encode

    [row], cut = encode(chat, [_study("The lungs are clear.")])
    prompt, target = chat.ids(chat.prompt(_study("The lungs are clear.")).content), chat.target_ids("Clear.")
    assert row["input_ids"] == prompt + target
    assert row["labels"] == [-100] * len(prompt) + target
    assert cut == 0


def test_long_findings_are_cut_at_the_end_of_a_token_and_marked(tiny_model: Path, chat: Prompter) -> None:
    findings = "The lungs are clear. " * 20
    whole = chat.tokenizer(findings.strip(), add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    prompter = _prompter(tiny_model, room=_frame(chat) + 7)
    prompt = prompter.prompt(_study(findings))
    assert prompt.cut
    shown = prompt.content[1]["content"].removeprefix("Findings: ")
    assert shown in {findings[:end] for _, end in whole[:7]}
    assert findings.startswith(shown)
    assert shown
    assert len(prompter.ids(prompt.content)) <= _frame(chat) + 7


def test_findings_that_just_fit_are_not_cut(tiny_model: Path, chat: Prompter) -> None:
    study = _study("The lungs are clear. Heart size is normal.")
    needed = len(chat.ids(chat.prompt(study).content))
    assert not _prompter(tiny_model, room=needed).prompt(study).cut
    assert _prompter(tiny_model, room=needed - 1).prompt(study).cut


def test_cut_prompts_are_counted(tiny_model: Path, chat: Prompter) -> None:
    from radiograd.train.sft import encode

    prompter = _prompter(tiny_model, room=_frame(chat) + 5)
    rows, cut = encode(prompter, [_study("Clear."), _study("The lungs are clear. " * 20), _study("word " * 300)])
    assert (len(rows), cut) == (3, 2)


def test_an_instruction_that_fills_the_prompt_is_refused(tiny_model: Path, chat: Prompter) -> None:
    with pytest.raises(ConfigError, match=rf"max_prompt_tokens={_frame(chat)} leaves no room .* {_frame(chat)} tokens"):
        _prompter(tiny_model, room=_frame(chat))


@pytest.mark.parametrize("findings", [None, "", "  \n "])
def test_a_study_without_findings_has_a_prompt_all_the_same(chat: Prompter, findings: str | None) -> None:
    prompt = chat.prompt(_study(findings))
    assert prompt.content[1]["content"] == "Findings: "
    assert not prompt.cut


@pytest.mark.parametrize("kind", ["chat", "plain"])
def test_redaction_marks_stay_in_the_row_and_out_of_the_loss(kind: str, request: pytest.FixtureRequest) -> None:
    prompter: Prompter = request.getfixturevalue(kind)
    text = "Nodule seen by XXXX, follow XXXX-XXXX."
    ids, labels = prompter.target_ids(text), prompter.target_labels(text)
    assert len(ids) == len(labels)
    assert "XXXX" in prompter.tokenizer.decode(ids)
    learnt = prompter.tokenizer.decode([token for token in labels if token != -100])
    assert "X" not in learnt
    assert learnt.replace(" ", "") == "Noduleseenby,follow-.<|end|>"
    assert all(label in (-100, token) for label, token in zip(labels, ids, strict=True))


def test_a_policy_is_aligned_on_studies_whose_impression_holds_no_redaction_mark() -> None:
    marked = Study("s2", "p2", "synthetic", Sections(findings="Clear.", impression="Seen by XXXX."))
    studies = [_study("a"), marked, _study("XXXX in the findings is no matter")]
    assert alignable(studies, 2, "impression") == [studies[0], studies[2]]
    with pytest.raises(DataError, match=r"align\.prompts=3 or more .* no XXXX; there are 2\. Lower align\.prompts"):
        alignable(studies, 3, "impression")


def test_without_redaction_marks_every_target_token_is_learnt(chat: Prompter) -> None:
    assert chat.target_labels("XXX is not a mark.") == chat.target_ids("XXX is not a mark.")


@given(st.text(max_size=200), st.integers(1, 60))
def test_any_text_keeps_to_the_limit_and_is_shown_from_its_start(
    tiny_model: Path, plain_model: Path, text: str, room: int
) -> None:
    for folder in (tiny_model, plain_model):
        prompter = _cached(folder, room)
        prompt = prompter.prompt(_study(text))
        ids = prompter.ids(prompt.content)
        assert len(ids) <= prompter.config.max_prompt_tokens
        content = prompt.content if isinstance(prompt.content, str) else prompt.content[1]["content"]
        shown = content.split("Findings: ", 1)[1].removesuffix("\n\nImpression:")
        assert text.strip().startswith(shown)
        assert prompt.cut == (shown != text.strip())
        targets = prompter.target_ids(text)
        assert len(targets) == len(prompter.target_labels(text))
        assert targets[-1] == prompter.tokenizer.eos_token_id


_PROMPTERS: dict[tuple[Path, int], Prompter] = {}


def _cached(folder: Path, room: int) -> Prompter:
    """Loading a tokenizer for every example would be all the test does."""
    if (folder, 0) not in _PROMPTERS:
        _PROMPTERS[folder, 0] = _prompter(folder)
    if (folder, room) not in _PROMPTERS:
        first = _PROMPTERS[folder, 0]
        config = first.config.model_copy(update={"max_prompt_tokens": _frame(first) + room})
        _PROMPTERS[folder, room] = Prompter(first.tokenizer, config, "findings_to_impression")
    return _PROMPTERS[folder, room]


# ---- whole reports ---------------------------------------------------------------------------------------------------

REPORT = "Write the report."


def _reporter(folder: Path, room: int = 200) -> Prompter:
    config = ModelConfig(name=str(folder), system_prompt=REPORT, max_prompt_tokens=room)
    return Prompter(models.load_tokenizer(config), config, "report")


def _seen(indication: str | None, comparison: str | None = None) -> Study:
    sections = Sections(findings="Small left effusion.", impression="Effusion.", comparison=comparison)
    return Study("s1", "p1", "synthetic", sections, indication=indication)


def test_a_report_is_asked_for_with_indication_and_comparison_and_nothing_else(
    tiny_model: Path, plain_model: Path
) -> None:
    study = _seen("Cough.", "None.")
    assert _reporter(tiny_model).prompt(study).content == [
        {"role": "system", "content": REPORT},
        {"role": "user", "content": "Indication: Cough.\nComparison: None."},
    ]
    plain = _reporter(plain_model).prompt(study).content
    assert plain == f"{REPORT}\n\nIndication: Cough.\nComparison: None.\n\nReport:"


def test_a_study_with_neither_has_a_prompt_that_says_so(tiny_model: Path) -> None:
    prompt = _reporter(tiny_model).prompt(_seen(None))
    assert prompt.content[1]["content"] == "Indication: not given"
    assert not prompt.cut


def test_a_report_is_learnt_with_both_headers_and_without_redaction_marks(tiny_model: Path) -> None:
    from radiograd.train.sft import encode

    prompter = _reporter(tiny_model)
    sections = Sections(findings="The XXXX are clear.", impression="Normal.")
    study = Study("s1", "p1", "synthetic", sections, indication="Cough.")
    [row], _ = encode(prompter, [study])
    prompt = prompter.ids(prompter.prompt(study).content)
    decode = prompter.tokenizer.decode
    assert decode(row["input_ids"][len(prompt) :]) == "Findings: The XXXX are clear.\nImpression: Normal.<|end|>"
    learnt = decode([token for token in row["labels"] if token != -100])
    assert "X" not in learnt
    assert learnt.startswith("Findings: The")
    assert learnt.endswith("\nImpression: Normal.<|end|>")


@settings(deadline=None)  # the first example loads a tokenizer
@given(st.text(max_size=120), st.text(max_size=120), st.integers(1, 40))
def test_what_is_too_long_is_cut_from_the_end_and_never_from_the_middle(
    tiny_model: Path, plain_model: Path, indication: str, comparison: str, room: int
) -> None:
    for folder in (tiny_model, plain_model):
        prompter = _cached_reporter(folder, room)
        study = _seen(indication, comparison)
        prompt = prompter.prompt(study)
        assert len(prompter.ids(prompt.content)) <= prompter.config.max_prompt_tokens
        content = prompt.content if isinstance(prompt.content, str) else prompt.content[1]["content"]
        shown = content.removeprefix(f"{REPORT}\n\n").removesuffix("\n\nReport:")
        whole = "\n".join(f"{label}: {text}" for label, text in prompter.task.given(study))
        assert whole.startswith(shown)
        assert prompt.cut == (shown != whole)


def test_the_last_text_goes_first_and_takes_its_label_along(tiny_model: Path) -> None:
    whole = _reporter(tiny_model)
    study = _seen("Cough.", "Films of two days ago.")
    alone = len(whole.ids(whole.prompt(_seen("Cough.")).content))
    prompt = _reporter(tiny_model, room=alone).prompt(study)
    assert prompt.content[1]["content"] == "Indication: Cough."
    assert prompt.cut


_REPORTERS: dict[tuple[Path, int], Prompter] = {}


def _cached_reporter(folder: Path, room: int) -> Prompter:
    if (folder, 0) not in _REPORTERS:
        _REPORTERS[folder, 0] = _reporter(folder)
    first = _REPORTERS[folder, 0]
    frame = max(len(first.ids(first._content(((label, ""),)))) for label in ("Indication", "Comparison"))
    if (folder, room) not in _REPORTERS:
        config = first.config.model_copy(update={"max_prompt_tokens": frame + room})
        _REPORTERS[folder, room] = Prompter(first.tokenizer, config, "report")
    return _REPORTERS[folder, room]


def test_whole_reports_are_rewarded_without_their_redaction_marks_and_none_is_left_out() -> None:
    marked = Study("a", "p", "synthetic", Sections(findings="The XXXX are clear. XXXX.", impression="Seen XXXX-XXXX."))
    clean = _seen("Cough.")
    found = alignable([marked, clean], 2, "report")
    assert found[1] == clean
    assert found[0].sections.report == "Findings: The are clear..\nImpression: Seen-."
    assert alignable([marked, clean], 1, "impression") == [clean]


def test_a_report_of_marks_alone_or_without_a_section_is_left_out() -> None:
    empty = Study("a", "p", "synthetic", Sections(findings="XXXX", impression="Normal."))
    half = Study("b", "p", "synthetic", Sections(findings="Clear.", impression=None))
    with pytest.raises(DataError, match=r"align\.prompts=2 or more .* whose report holds no XXXX; there are 1"):
        alignable([empty, half, _seen("Cough.")], 2, "report")


def test_what_is_learnt_word_by_word_holds_no_redaction_mark_in_either_section() -> None:
    marked = Study("a", "p", "synthetic", Sections(findings="The XXXX are clear.", impression="Normal."))
    assert imitable([marked, _seen(None)], "report") == [_seen(None)]
    assert imitable([marked, _seen(None)], "impression") == [marked, _seen(None)]
    with pytest.raises(DataError, match="needs a training study whose report holds no XXXX; there are 0"):
        imitable([marked], "report")
