"""Make a trained network fast for scoring: BatchNorm folded, channels last, bf16 if faster."""

from __future__ import annotations

import copy
import ctypes
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from touchline.models.backbone import Backbone
from touchline.models.networks.efficientnet_lite import SameConv2d

PRECISIONS = ("auto", "float32", "bf16")

# From glibc's malloc.h. 32 MiB is the largest threshold that it takes.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def pick_device(device: str = "auto") -> torch.device:
    """Return the torch device of that name; "auto" is the first GPU, else the CPU.

    Raises:
        ValueError: There is no such device, or the machine lacks it.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device is {device!r}. Use auto, cpu, cuda, cuda:1 or mps.") from None
    try:
        torch.empty(0, device=picked)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here ({reason})") from None
    return picked


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the number format for a device; "auto" is bf16 if the hardware is faster with it.

    Raises:
        ValueError: `precision` is not one of PRECISIONS.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    if precision == "auto":
        native = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device.type == "cuda"
            else device.type == "cpu" and _bf16_pays_on_cpu()
        )
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _bf16_pays_on_cpu() -> bool:
    """Tell whether the processor has matrix units for bf16 (AMX); with vector units bf16 is slow.

    The processor says so. A timing would depend on what else is running.
    """
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return has_amx is not None and bool(has_amx())


def fast_copy(backbone: Backbone, device: torch.device, dtype: torch.dtype) -> Backbone:
    """Return a copy of `backbone` that is fast at inference.

    Args:
        backbone: The network. It stays as it is.
        device: Where the copy will run.
        dtype: Number format of the stages. The head stays in float32.

    Raises:
        ValueError: The network computes no numbers.
        RuntimeError: The copy computes something else than the original.
    """
    fast = copy.deepcopy(backbone).cpu().eval().requires_grad_(False)
    clip = _probe_clip(fast)
    before = _features(fast, clip)
    if not before.isfinite().all():
        raise ValueError(
            "the model computes values that are not finite numbers, as after training that "
            "diverged. Train again, with a lower --lr"
        )
    fold_batchnorm(fast)
    if device.type == "cpu":
        keep_freed_memory()
        flatten_convolutions(fast.stages)
        if can_fuse_activations():
            fuse_activations(fast)
    for module in fast.stages.modules():
        if isinstance(module, nn.ReLU | nn.ReLU6):
            module.inplace = True
        elif isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        elif isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    after = _features(fast, clip)
    if not torch.allclose(before, after, rtol=1e-2, atol=1e-3 * float(before.abs().max())):
        raise RuntimeError("the fast copy of the network computes other features than the network")
    fast.to(device)
    fast.stages.to(dtype=dtype)
    return fast


@torch.inference_mode()
def computes_numbers(backbone: Backbone) -> bool:
    """Tell whether a network computes finite numbers for a clip of noise."""
    own = next(backbone.parameters())
    training = backbone.training
    clip = _probe_clip(backbone.eval()).to(own.device, own.dtype)
    logits = backbone.head(backbone.features(clip))
    backbone.train(training)
    return bool(logits.isfinite().all())


def keep_freed_memory() -> None:
    """Let the C library keep freed memory, up to 2 GiB, for the next allocation.

    By default glibc returns every large block to the system. Each layer of a network then waits for
    the system to clear the pages of its output: up to a third of the processor time. Other C
    libraries stay as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)


class FlatConv3d(nn.Module):
    """A 3-D convolution over time only or space only, run as a 2-D convolution over a view.

    Channels-last memory is B T H W C, so (B * T, C, H, W) and (B, C, T, H * W) cost no copy. On a
    CPU, 2-D kernels are up to five times as fast: 31 ms instead of 144 ms for 256 -> 64 channels,
    3x1x1.
    """

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        kt, kh, kw = conv.kernel_size
        self.over_time = (kh, kw) == (1, 1) and kt > 1
        taps = conv.weight[..., 0] if self.over_time else conv.weight[:, :, 0]
        first = 0 if self.over_time else 1

        def pair(sizes: Sequence[int]) -> tuple[int, int]:
            return int(sizes[first]), int(sizes[first + 1])

        self.conv = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            pair(conv.kernel_size),
            pair(conv.stride),
            pair(conv.padding),  # type: ignore[arg-type]
            pair(conv.dilation),
            conv.groups,
            bias=conv.bias is not None,
        )
        self.conv.weight = nn.Parameter(taps.detach().clone())
        self.conv.bias = conv.bias

    @staticmethod
    def fits(conv: nn.Conv3d) -> bool:
        """Tell whether a convolution runs over time only or space only, with zero padding."""
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            return False
        time_only = conv.kernel_size[1:] == (1, 1) and conv.padding[1:] == (0, 0)
        space_only = conv.kernel_size[0] == 1 and conv.padding[0] == 0
        keeps_space = tuple(conv.stride[1:]) == (1, 1)
        return (time_only and keeps_space) or (space_only and conv.stride[0] == 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        B, C, T, H, W = x.shape
        x = x.contiguous(memory_format=torch.channels_last_3d).permute(0, 2, 3, 4, 1)
        if self.over_time:
            y: Tensor = self.conv(x.reshape(B, T, H * W, C).permute(0, 3, 1, 2))
            return y.reshape(*y.shape[:3], H, W)  # from (B, C', T', H * W)
        y = self.conv(x.reshape(B * T, H, W, C).permute(0, 3, 1, 2))
        return y.reshape(B, T, *y.shape[1:]).transpose(1, 2)  # from (B * T, C', H', W')


def flatten_convolutions(root: nn.Module) -> None:
    """Replace every 3-D convolution over time only or space only under `root` by a 2-D one."""
    found = [
        (name, module)
        for name, module in root.named_modules()
        if isinstance(module, nn.Conv3d) and FlatConv3d.fits(module)
    ]
    for name, conv in found:
        _swap(root, name, FlatConv3d(conv))


class ConvActivation(nn.Module):
    """A convolution and the activation after it in one pass of oneDNN, with the same result.

    In bf16 on a CPU, ReLU6 by itself takes PyTorch up to three times as long as the convolution.
    """

    def __init__(self, conv: nn.Conv2d | nn.Conv3d, activation: nn.ReLU | nn.ReLU6) -> None:
        super().__init__()
        self.conv = conv
        is_relu6 = isinstance(activation, nn.ReLU6)
        self._name, self._limits = ("hardtanh", [0.0, 6.0]) if is_relu6 else ("relu", [])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C', ...), as the activation of the convolution."""
        conv = self.conv
        padding = conv.padding
        if isinstance(conv, SameConv2d):
            x, padding = conv.pad(x)
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            *(x, conv.weight, conv.bias, padding, conv.stride, conv.dilation, conv.groups),
            *(self._name, self._limits, ""),
        )
        return y


@cache
def can_fuse_activations() -> bool:
    """Tell whether this build of PyTorch computes convolution and activation in one pass.

    The operator is not public, so it is tried first.
    """
    x = torch.linspace(-9, 9, 2 * 3 * 8 * 8).view(2, 3, 8, 8)
    conv = nn.Conv2d(3, 4, 3, padding=1).requires_grad_(False)
    activations = nn.ReLU(), nn.ReLU6()
    try:
        return all(
            torch.allclose(ConvActivation(conv, each)(x), each(conv(x)), atol=1e-5)
            for each in activations
        )
    except (AttributeError, RuntimeError, TypeError):
        return False


def fuse_activations(backbone: Backbone) -> None:
    """Join every ReLU or ReLU6 that directly follows a convolution with it.

    Activations work in place, so nothing else sees what the convolution returned.
    """
    for (conv_name, conv), (name, activation) in _pairs(backbone, _is_plain, (nn.ReLU, nn.ReLU6)):
        if isinstance(conv, FlatConv3d):
            _swap(conv, "conv", ConvActivation(conv.conv, activation))
        else:
            _swap(backbone.stages, conv_name, ConvActivation(conv, activation))
        _swap(backbone.stages, name, nn.Identity())


def _is_plain(module: nn.Module) -> bool:
    """Tell whether `ConvActivation` knows this convolution; it may not know a subclass."""
    if isinstance(module, FlatConv3d):
        return True
    known = type(module) in (nn.Conv2d, nn.Conv3d, SameConv2d)
    return known and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def fold_batchnorm(backbone: Backbone) -> int:
    """Fold every BatchNorm that directly follows a convolution into it. Return how many."""
    pairs = _pairs(
        backbone,
        lambda module: isinstance(module, nn.Conv2d | nn.Conv3d),
        (nn.BatchNorm2d, nn.BatchNorm3d),
    )
    for (conv_name, conv), (bn_name, bn) in pairs:
        _swap(backbone.stages, conv_name, fuse_conv_bn_eval(conv, bn))
        _swap(backbone.stages, bn_name, nn.Identity())
    return len(pairs)


def _pairs(
    backbone: Backbone, is_conv: Callable[[nn.Module], bool], kinds: tuple[type[nn.Module], ...]
) -> list[tuple[tuple[str, Any], tuple[str, Any]]]:
    """Convolutions and what directly follows them: name and module of each, both used once.

    One clip goes through the network to find the pairs, so no network has to declare its wiring. A
    pair is a module whose input is the very tensor that a convolution returned.

    Args:
        backbone: The network.
        is_conv: Tells which modules are such convolutions.
        kinds: The classes of what follows.
    """
    made_by: dict[int, tuple[str, nn.Module, Tensor]] = {}
    pairs: list[tuple[tuple[str, Any], tuple[str, Any]]] = []
    uses: Counter[str] = Counter()
    hooks = []
    for name, module in backbone.stages.named_modules():
        if is_conv(module):

            def after(m: nn.Module, _: Any, out: Tensor, name: str = name) -> None:
                # Keep the tensor alive, so that no other tensor gets its id.
                made_by[id(out)] = name, m, out
                uses[name] += 1

            hooks.append(module.register_forward_hook(after))
        elif isinstance(module, kinds):

            def before(m: nn.Module, args: tuple[Tensor, ...], name: str = name) -> None:
                uses[name] += 1
                if id(args[0]) in made_by:
                    conv_name, conv, _ = made_by[id(args[0])]
                    pairs.append(((conv_name, conv), (name, m)))

            hooks.append(module.register_forward_pre_hook(before))
    _features(backbone, _probe_clip(backbone))
    for hook in hooks:
        hook.remove()
    return [(conv, other) for conv, other in pairs if uses[conv[0]] == uses[other[0]] == 1]


def _probe_clip(backbone: Backbone) -> Tensor:
    """Make the shortest noise clip that the trunk takes, on the CPU, and as small as it takes."""
    spec = backbone.spec
    frames = backbone.min_frames if backbone.framewise else spec.num_frames
    size_px = spec.size_px
    if backbone.slides_in_time:
        size_px = min(size_px, max(64, backbone.min_size_px))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, frames, size_px, size_px, generator=generator)


@torch.inference_mode()
def _features(backbone: Backbone, clip: Tensor) -> Tensor:
    """Return the trunk's features of a clip of any size."""
    return backbone.leave(backbone.run_stages(backbone.enter(clip)), len(clip))


def _swap(root: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, new)
