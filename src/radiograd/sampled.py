"""Several sampled texts of each study by one policy, batch by batch, resumable to the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radiograd.decoding import decode, end_tokens
from radiograd.runs import append_jsonl, is_terminal, read_jsonl, write_jsonl


@dataclass(frozen=True, slots=True)
class Sampling:
    """``texts`` texts a study at ``temperature``. ``seed_of``: the seed of a batch from its place and its studies, so
    that a resumed program draws what an uninterrupted one would have drawn. ``what`` stands on the progress bar."""

    texts: int
    max_new_tokens: int
    temperature: float
    seed_of: Callable[[int, Sequence[str]], int]
    what: str


def sample_texts(
    path: Path,
    batches: Sequence[Sequence[str]],
    prompts: Mapping[str, Sequence[int]],
    load: Callable[[], Any],
    tokenizer: Any,
    how: Sampling,
) -> None:
    """Append {study_id, texts, cut} to ``path`` for every study of ``batches``, in their order; whole batches that
    stand there already are kept.

    ``prompts``: study id -> tokens. ``load`` makes the policy; it is called only when something is left to do. Torch's
    global generators are left as they were.
    """
    done = _whole_batches(path, batches, how.texts)
    if done == len(batches):
        return
    import torch
    from tqdm import tqdm

    with torch.random.fork_rng():  # loading a policy draws too: the start of an adapter
        model = load()
        eos = end_tokens(model, tokenizer)
        for place in tqdm(range(done, len(batches)), desc=how.what, disable=not is_terminal(), unit="batch"):
            torch.manual_seed(how.seed_of(place, batches[place]))
            tokens = decode(
                model,
                [prompts[key] for key in batches[place]],
                repeats=how.texts,
                max_new_tokens=how.max_new_tokens,
                eos=eos,
                pad=tokenizer.pad_token_id,
                temperature=how.temperature,
            )
            texts = [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
            cut = [new[-1] not in eos for new in tokens]
            rows = [slice(k * how.texts, (k + 1) * how.texts) for k in range(len(batches[place]))]
            append_jsonl(
                path,
                [
                    {"study_id": key, "texts": texts[of], "cut": cut[of]}
                    for key, of in zip(batches[place], rows, strict=True)
                ],
            )


def _whole_batches(path: Path, batches: Sequence[Sequence[str]], texts: int) -> int:
    """How many leading batches stand in ``path`` whole; what follows them is dropped from the file."""
    if not path.exists():
        return 0
    rows = list(read_jsonl(path))
    whole = kept = 0
    for batch in batches:
        part = rows[kept : kept + len(batch)]
        if [(row["study_id"], len(row["texts"])) for row in part] != [(key, texts) for key in batch]:
            break
        whole, kept = whole + 1, kept + len(batch)
    write_jsonl(path, rows[:kept])
    return whole
