"""Parts of a batch side by side, against the same parts one after another."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from radiograd import lanes


class Model(torch.nn.Module):
    """A trained layer, a frozen one and one that no part uses."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.used, self.idle = torch.nn.Linear(6, 4), torch.nn.Linear(2, 2)
        self.frozen = torch.nn.Linear(4, 3).requires_grad_(False)
        self.drop = torch.nn.Dropout(0.0)

    def part(self, x: torch.Tensor):
        def compute():
            out = self.frozen(torch.tanh(self.used(x))).sum(-1)
            return out, out.detach() * 2

        return compute


PARTS = [torch.randn(rows, 6, generator=torch.Generator().manual_seed(rows)) for rows in (3, 1, 5)]


def gradients(model: Model) -> list[torch.Tensor | None]:
    found = [weight.grad for weight in model.parameters()]
    model.zero_grad()
    return found


def test_values_and_gradients_are_those_of_one_after_another() -> None:
    model = Model()
    threads = torch.get_num_threads()
    weights = [torch.randn(len(x), generator=torch.Generator().manual_seed(9)) for x in PARTS]
    found = lanes.side_by_side(model, [model.part(x) for x in PARTS])
    sum((out * w).sum() for (out, _), w in zip(found, weights, strict=True)).backward()
    together = gradients(model)
    apart = [model.part(x)() for x in PARTS]
    sum((out * w).sum() for (out, _), w in zip(apart, weights, strict=True)).backward()
    for mine, theirs in zip(together, gradients(model), strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            torch.testing.assert_close(mine, theirs)
    for (out, beside), (out_apart, beside_apart) in zip(found, apart, strict=True):
        torch.testing.assert_close(out, out_apart)
        torch.testing.assert_close(beside, beside_apart)
        assert not beside.requires_grad
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("threads", "each"), [(1, 1), (2, 1), (5, 2)])
def test_each_part_has_a_thread_with_its_share_of_the_threads(threads: int, each: int) -> None:
    model, seen = Model(), []
    gate = threading.Barrier(2, timeout=60)  # passes only when both parts are under way

    def part():
        gate.wait()
        seen.append((threading.get_ident(), torch.get_num_threads()))
        return torch.zeros(1), torch.zeros(1)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        lanes.side_by_side(model, [part, part])
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len({ident for ident, _ in seen}) == 2
    assert [count for _, count in seen] == [each, each]


def test_without_gradients_no_graph_is_kept() -> None:
    model = Model()
    with torch.no_grad():
        found = lanes.side_by_side(model, [model.part(x) for x in PARTS])
    assert not any(out.requires_grad for out, _ in found)
    model.requires_grad_(False)
    assert not any(out.requires_grad for out, _ in lanes.side_by_side(model, [model.part(x) for x in PARTS]))


def test_parts_that_carry_no_gradient_are_passed_over() -> None:
    model = Model()
    nothing = lambda: (torch.zeros(2), torch.zeros(2))  # noqa: E731
    found = lanes.side_by_side(model, [model.part(PARTS[0]), nothing])
    sum(out.sum() for out, _ in found).backward()
    alone = model.part(PARTS[0])()[0].sum()
    mine = gradients(model)
    alone.backward()
    torch.testing.assert_close(mine[0], gradients(model)[0])
    empty = lanes.side_by_side(model, [nothing, nothing])
    sum(out.sum() for out, _ in empty).backward()
    assert gradients(model) == [None] * 6


def test_an_error_of_a_part_is_raised_and_the_threads_are_given_back() -> None:
    model, before = Model(), torch.get_num_threads()

    def fails():
        raise ValueError("of a part")

    with pytest.raises(ValueError, match="of a part"):
        lanes.side_by_side(model, [model.part(PARTS[0]), fails])
    assert torch.get_num_threads() == before


def test_random_dropout_and_single_parts_keep_to_one_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert lanes.width(model, 3) == 3
    assert lanes.width(model, 9) == 4
    assert lanes.width(model, 1) == 1
    model.drop.p = 0.1
    assert lanes.width(model, 3) == 1
    assert lanes.width(model.eval(), 3) == 3


@given(st.lists(st.integers(0, 50), max_size=12), st.integers(1, 4))
def test_lanes_hold_every_item_once_and_none_is_twice_as_full_as_it_need_be(sizes: list[int], count: int) -> None:
    found = lanes.balanced(sizes, count)
    assert sorted(item for lane in found for item in lane) == list(range(len(sizes)))
    assert len(found) <= count
    fullest = max((sum(sizes[item] for item in lane) for lane in found), default=0)
    assert fullest <= 2 * max([*sizes, -(-sum(sizes) // count)], default=0)
