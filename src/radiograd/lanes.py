"""Parts of a batch computed side by side on a CPU, threads shared out among them, forward and backward.

At the size of a report most of what a layer does is small: two threads that share every operation wait for one another
thousands of times a step. A thread that has whole rows to itself does not. The same numbers up to the order of sums.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
Part = Callable[[], tuple[Any, Any]]
"""Computes a tensor that carries gradients and one that does not."""


def width(model: Any, parts: int) -> int:
    """How many of ``parts`` parts go side by side: one a thread on a CPU; 1 where a dropout draws random numbers, whose
    order would then be left to chance."""
    import torch

    if model.device.type != "cpu" or parts < 2:
        return 1
    drops = any(isinstance(m, torch.nn.Dropout) and m.p > 0 and m.training for m in model.modules())
    return 1 if drops else min(parts, torch.get_num_threads())


def balanced(sizes: Sequence[int], lanes: int) -> list[list[int]]:
    """Item numbers in at most ``lanes`` lanes of like total size; the largest first, each to the emptiest lane."""
    found: list[list[int]] = [[] for _ in range(lanes)]
    filled = [0] * lanes
    for item in sorted(range(len(sizes)), key=lambda item: (-sizes[item], item)):
        emptiest = min(range(lanes), key=filled.__getitem__)
        found[emptiest].append(item)
        filled[emptiest] += sizes[item]
    return [sorted(lane) for lane in found if lane]


def run(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """What each task gives; several at once, each in a thread that computes with its share of the threads.

    What torch keeps for each thread (gradients on or off, autocast) is as new in them: tasks set it themselves.
    """
    import torch

    if len(tasks) == 1:
        return [tasks[0]()]
    before = torch.get_num_threads()
    share = max(1, before // len(tasks))

    def shared(task: Callable[[], T]) -> T:
        torch.set_num_threads(share)  # OpenMP's number is the thread's, MKL's the process's
        return task()

    torch.set_num_threads(share)
    try:
        return [future.result() for future in [_pool().submit(shared, task) for task in tasks]]
    finally:
        torch.set_num_threads(before)


def side_by_side(model: Any, parts: Sequence[Part]) -> list[tuple[Any, Any]]:
    """What each part gives. Gradients of the first of the two reach the trained parameters of ``model``."""
    import torch

    if len(parts) == 1:
        return [parts[0]()]
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if not torch.is_grad_enabled() or not trained:
        return run([functools.partial(_with_grad, part, False) for part in parts])
    flat = _function().apply(parts, *trained)
    return [(flat[2 * number], flat[2 * number + 1]) for number in range(len(parts))]


@functools.cache
def _function() -> Any:
    import torch

    class Side(torch.autograd.Function):  # type: ignore[misc]
        """Keeps each part's own graph and goes back through all of them at once."""

        @staticmethod
        def forward(ctx: Any, parts: Sequence[Part], *trained: Any) -> Any:
            found = run([functools.partial(_with_grad, part, True) for part in parts])
            ctx.roots, ctx.trained = [carries for carries, _ in found], trained
            flat = [tensor.detach() for pair in found for tensor in pair]
            ctx.mark_non_differentiable(*flat[1::2])
            return tuple(flat)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            def back(root: Any, grad: Any) -> Any:
                return torch.autograd.grad([root], ctx.trained, [grad], allow_unused=True)

            pairs = zip(ctx.roots, grads[::2], strict=True)
            tasks = [functools.partial(back, root, grad) for root, grad in pairs if root.requires_grad]
            columns = zip(*run(tasks), strict=True) if tasks else [()] * len(ctx.trained)
            del ctx.roots
            return None, *(_sum(column) for column in columns)

    return Side


def _sum(grads: Sequence[Any]) -> Any:
    known = [grad for grad in grads if grad is not None]
    return functools.reduce(lambda a, b: a + b, known) if known else None


def _with_grad(part: Part, wanted: bool) -> tuple[Any, Any]:
    import torch

    with torch.set_grad_enabled(wanted):
        return part()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2), thread_name_prefix="lane")
