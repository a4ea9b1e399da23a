"""A low-rank adapter and the layer under it in one step: fewer passes over the activations, in both directions.

PEFT computes base(x) + B(A(x)) * scale with every term in memory by itself. Here the low-rank product is added into the
layer's own output, and into its input's gradient, in place. The same numbers, and in bfloat16 one rounding less.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def fuse(model: Any) -> int:
    """Let every plain LoRA layer of ``model`` (PEFT) compute in one step; how many do. Others stay as they are.

    Plain: a torch Linear under one active adapter without dropout, bias or variant (DoRA and others). What is not plain
    at the time of a call (adapters off, several at once) goes PEFT's own way.
    """
    from peft.tuners.lora import Linear

    fused = 0
    for module in model.modules():
        if type(module) is Linear and "forward" not in vars(module):
            module.forward = functools.partial(_forward, module, module.forward)
            fused += 1
    return fused


def _forward(module: Any, original: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    import torch

    name = _plain(module) if not args and not kwargs else None
    if name is None:
        return original(x, *args, **kwargs)
    base = module.base_layer
    dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else base.weight.dtype
    if base.weight.dtype != dtype:
        return original(x)
    down, up = module.lora_A[name], module.lora_B[name]
    narrow = _cast(down, dtype), _cast(up, dtype)
    rows = x.to(dtype).reshape(-1, x.shape[-1])
    scale = module.scaling[name]
    if torch.is_grad_enabled() and (x.requires_grad or down.weight.requires_grad):
        out = _function().apply(rows, base.weight, base.bias, down.weight, up.weight, *narrow, scale)
    else:
        out, _ = _add_low_rank(rows, base.weight, base.bias, *narrow, scale)
    return out.view(*x.shape[:-1], -1)


def _plain(module: Any) -> str | None:
    """The one adapter that is active on ``module``, None when there is more to it than that."""
    import torch

    active = [name for name in module.active_adapters if name in module.lora_A]
    base = module.base_layer
    if module.disable_adapters or module.merged or len(active) != 1 or type(base) is not torch.nn.Linear:
        return None
    name: str = active[0]
    dropout = module.lora_dropout[name]
    unusual = (
        name in module.lora_variant
        or module.lora_A[name].bias is not None
        or module.lora_B[name].bias is not None
        or (module.training and not isinstance(dropout, torch.nn.Identity) and dropout.p > 0)
        or base.weight.requires_grad
        or type(base.weight) is not torch.nn.Parameter
        or type(module.lora_A[name]) is not torch.nn.Linear
    )
    return None if unusual else name


@contextmanager
def unchanging() -> Iterator[None]:
    """While adapters are not trained: each is rounded to the model's precision once, not once for every token."""
    global _rounded
    before, _rounded = _rounded, {}
    try:
        yield
    finally:
        _rounded = before


_rounded: dict[tuple[int, Any], Any] | None = None


def _cast(factor: Any, dtype: Any) -> Any:
    """The weight of ``factor`` in ``dtype``."""
    weight = factor.weight.detach()
    if weight.dtype == dtype or _rounded is None:
        return weight.to(dtype)
    key = id(factor), dtype
    if key not in _rounded:
        _rounded[key] = weight.to(dtype)
    return _rounded[key]


def _add_low_rank(x: Any, weight: Any, bias: Any, down: Any, up: Any, scale: float) -> tuple[Any, Any]:
    """x (N, I) -> x weight^T + bias + scale x down^T up^T, (N, O), and scale x down^T, (N, r)."""
    import torch

    low = torch.nn.functional.linear(x, down) * scale
    return torch.nn.functional.linear(x, weight, bias).addmm_(low, up.t()), low


@functools.cache
def _function() -> Any:
    import torch

    class LowRank(torch.autograd.Function):  # type: ignore[misc]
        """Gradients of LoRA (arXiv:2106.09685, equation 3) with a frozen weight."""

        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Any:
            x, weight, bias, down, _, down_cast, up_cast, scale = arguments
            out, low = _add_low_rank(x, weight, bias, down_cast, up_cast, scale)
            ctx.save_for_backward(x, weight, down_cast, up_cast, low)
            ctx.scale, ctx.dtype = scale, down.dtype
            return out

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            x, weight, down, up, low = ctx.saved_tensors
            d_low = (grad @ up) * ctx.scale
            d_x = (grad @ weight).addmm_(d_low, down) if ctx.needs_input_grad[0] else None
            d_down, d_up = (d_low.t() @ x).to(ctx.dtype), (grad.t() @ low).to(ctx.dtype)
            return d_x, None, None, d_down, d_up, None, None, None

    return LowRank
