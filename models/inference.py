"""A trained network made fast for scoring: BatchNorm folded, channels last, bf16 where it pays."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from touchline.models.backbone import Backbone

PRECISIONS = ("auto", "float32", "bf16")

_BATCHNORM = {nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}


def pick_device(device: str = "auto") -> torch.device:
    """`auto` is the first GPU, else the CPU; ValueError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
        torch.empty(0, device=picked)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here ({reason})") from None
    return picked


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """`auto` is bf16 where the hardware multiplies it natively, else float32."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    if precision == "auto":
        native = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device.type == "cuda"
            else _cpu_has_bf16()
            if device.type == "cpu"
            else False
        )
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _cpu_has_bf16() -> bool:
    probe: Any = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())


def fast_copy(backbone: Backbone, device: torch.device, dtype: torch.dtype) -> Backbone:
    """A copy of `backbone` for inference on `device`: stages in `dtype`, head in float32."""
    fast = copy.deepcopy(backbone).eval().requires_grad_(False)
    fold_batchnorm(fast)
    fast.to(device)
    fast.stages.to(dtype=dtype)
    for module in fast.modules():
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        elif isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return fast


def fold_batchnorm(backbone: Backbone) -> int:
    """Fold every BatchNorm that directly follows a convolution into it; the number folded.

    Pairs are found by watching one clip go through, so no network has to declare its wiring: a
    BatchNorm whose input is the very tensor that a convolution returned.
    """
    made_by: dict[int, tuple[str, nn.Module, Tensor]] = {}
    pairs: dict[str, tuple[str, nn.Module, nn.Module]] = {}
    uses: dict[str, int] = {}
    hooks = []
    for name, module in backbone.stages.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):

            def after_conv(m: nn.Module, _: Any, out: Tensor, name: str = name) -> None:
                # The tensor is kept alive so that its id stays its own.
                made_by[id(out)] = name, m, out
                uses[name] = uses.get(name, 0) + 1

            hooks.append(module.register_forward_hook(after_conv))
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):

            def before_bn(m: nn.Module, args: tuple[Tensor, ...], name: str = name) -> None:
                if id(args[0]) in made_by:
                    conv_name, conv, _ = made_by[id(args[0])]
                    pairs[name] = conv_name, conv, m

            hooks.append(module.register_forward_pre_hook(before_bn))
    with torch.no_grad():
        clip = _probe_clip(backbone)
        before = backbone.trunk(clip)
        for hook in hooks:
            hook.remove()
        made_by.clear()
        folded = {n: p for n, p in pairs.items() if uses[p[0]] == 1}
        for bn_name, (conv_name, conv, bn) in folded.items():
            _swap(backbone.stages, conv_name, fuse_conv_bn_eval(conv, bn))  # type: ignore[type-var,arg-type]
            _swap(backbone.stages, bn_name, nn.Identity())
        after = backbone.trunk(clip)
    if not torch.allclose(before, after, rtol=1e-2, atol=1e-3 * float(before.abs().max())):
        raise RuntimeError("folding BatchNorm changed what the network computes")
    return len(folded)


def _probe_clip(backbone: Backbone) -> Tensor:
    spec = backbone.spec
    frames = backbone.min_frames if backbone.framewise else spec.num_frames
    generator = torch.Generator().manual_seed(0)
    device = next(backbone.parameters()).device
    return torch.randn(1, 3, frames, spec.size_px, spec.size_px, generator=generator).to(device)


def _swap(root: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, new)
