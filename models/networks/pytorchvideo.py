"""Video networks of pytorchvideo's model zoo, cut into stages, trunk and head.

pytorchvideo is imported only when one of them is built. Means replace its fixed pooling kernels.
They give the same for the published clip, and work at every other size.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.heads import MeanHead

_MEAN, _STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)


def _clip(num_frames: int, stride: int, size_px: int) -> ClipSpec:
    """Every stride-th frame of 30 per second, as PySlowFast trained them."""
    return ClipSpec(num_frames, 30.0 / stride, size_px, _MEAN, _STD)


SPECS = {
    "i3d_r50": _clip(8, 8, 224),
    "c2d_r50": _clip(8, 8, 224),
    "slow_r50": _clip(8, 8, 224),
    "slowfast_r50": _clip(32, 2, 224),
    "x3d_xs": _clip(4, 12, 160),
    "x3d_s": _clip(13, 6, 160),
    "x3d_m": _clip(16, 5, 224),
    "x3d_l": _clip(16, 5, 312),
    "r2plus1d_r50": _clip(16, 4, 224),
    "csn_r101": _clip(32, 2, 224),
    "mvit_b_16x4": _clip(16, 4, 224),
    "mvit_b_32x3": _clip(32, 3, 224),
}
"""The clip that the published weights of each network were trained on."""


class _MissingRoIAlign:
    """Stands in for torchvision's class, which only detection networks build."""

    def __init__(self) -> None:
        raise ImportError("torchvision is not installed; pytorchvideo's detection networks need it")


@contextmanager
def _torchvision_stand_in() -> Iterator[None]:
    """Make `from torchvision.ops import RoIAlign` work, with or without torchvision.

    A torchvision built for CUDA raises RuntimeError with a CPU torch. So the import is tried once,
    and the remains of a failed one are removed. The stand-in is gone after the context.
    """
    try:
        importlib.import_module("torchvision.ops")
    except (ImportError, RuntimeError, OSError):
        broken = {n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")}
        for name in broken:
            del sys.modules[name]
    else:
        yield
        return
    package, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    ops.RoIAlign = _MissingRoIAlign  # type: ignore[attr-defined]
    package.ops = ops  # type: ignore[attr-defined]
    stand_ins = {"torchvision": package, "torchvision.ops": ops}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


def _hub(name: str) -> Any:
    """Return the builder `name` of pytorchvideo.models.hub."""
    with _torchvision_stand_in(), warnings.catch_warnings():
        # On import, fvcore compiles a loss with torch.jit, which warns that it is deprecated.
        warnings.simplefilter("ignore")
        return getattr(importlib.import_module("pytorchvideo.models.hub"), name)


class VideoResNet(Backbone):
    """A pytorchvideo network that is one chain of blocks: Slow, R(2+1)D, CSN."""

    classifier = "head.linear"
    slides_in_time = True
    block_names: tuple[str, ...] = ("stem", "res2", "res3", "res4", "res5")

    def __init__(self, net: Any, spec: ClipSpec, *, dropout: float = 0.5) -> None:
        super().__init__(spec)
        *blocks, head = net.blocks
        self.stages = nn.ModuleDict(dict(zip(self.block_names, blocks, strict=True)))
        self.head = MeanHead(head.proj, dropout)


class PairPooledResNet(VideoResNet):
    """C2D and I3D: the same chain; after res2, pairs of frames are max-pooled."""

    block_names = ("stem", "res2", "pool2", "res3", "res4", "res5")
    min_frames = 2


class X3DHead(nn.Module):
    """Features (B, D, T) -> logits (B, K): mean over time, 1x1x1 convolution, ReLU, linear."""

    def __init__(self, post_conv: nn.Conv3d, linear: nn.Linear, dropout: float) -> None:
        super().__init__()
        self.post_conv = post_conv
        self.dropout = nn.Dropout(dropout)
        self.linear = linear

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D, T) -> logits (B, K)."""
        x = features.mean(dim=2)[:, :, None, None, None]  # (B, D, 1, 1, 1)
        x = F.relu(self.post_conv(x)).flatten(1)
        logits: Tensor = self.linear(self.dropout(x))
        return logits


class X3D(Backbone):
    """X3D (Feichtenhofer 2020): stem, res2..res5, and conv5, which widens before pooling."""

    classifier = "head.linear"

    def __init__(self, net: Any, spec: ClipSpec, *, dropout: float = 0.5) -> None:
        super().__init__(spec)
        *blocks, head = net.blocks
        stages = dict(zip(["stem", "res2", "res3", "res4", "res5"], blocks, strict=True))
        conv5 = nn.Sequential()
        conv5.add_module("pre_conv", head.pool.pre_conv)
        conv5.add_module("pre_norm", head.pool.pre_norm)
        conv5.add_module("pre_act", head.pool.pre_act)
        stages["conv5"] = conv5
        self.stages = nn.ModuleDict(stages)
        self.head = X3DHead(head.pool.post_conv, head.proj, dropout)


class _PathwayStage(nn.Module):
    """A SlowFast block that does not change its input. The original writes into its list."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, paths: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        slow, fast = self.block(list(paths))
        return slow, fast


class SlowFast(Backbone):
    """SlowFast (Feichtenhofer et al. 2019) on one clip. T' is that of the slow path, D is 2304.

    The value between its stages is a pair (slow, fast).
    """

    classifier = "head.linear"
    single_path = False
    alpha = 4
    min_frames = 4

    def __init__(self, net: Any, spec: ClipSpec, *, dropout: float = 0.5) -> None:
        super().__init__(spec)
        if spec.num_frames % self.alpha:
            raise ValueError(
                f"the clip has {spec.num_frames} frames; SlowFast needs a multiple of {self.alpha}"
            )
        *blocks, _pool, head = net.blocks
        names = ["stem", "res2", "res3", "res4", "res5"]
        stages = (_PathwayStage(block) for block in blocks)
        self.stages = nn.ModuleDict(dict(zip(names, stages, strict=True)))
        self.head = MeanHead(head.proj, dropout)

    def enter(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips (B, 3, T, H, W) -> T / 4 frames, first and last included, and all T frames."""
        T = clips.shape[2]
        index = torch.linspace(0, T - 1, T // self.alpha).long()
        return clips[:, :, index.to(clips.device)], clips

    def leave(self, x: tuple[Tensor, Tensor], batch: int) -> Tensor:
        """Slow (B, 2048, T / 4, ...) and fast (B, 256, T, ...) -> features (B, 2304, T / 4)."""
        slow, fast = (path.float().mean(dim=(3, 4)) for path in x)
        return torch.cat([slow, F.avg_pool1d(fast, self.alpha)], dim=1)


class _Embed(nn.Module):
    """Clips -> tokens (B, 1 + T' H' W', C): patches, class token, positions."""

    def __init__(self, patch_embed: nn.Module, cls_positional_encoding: nn.Module) -> None:
        super().__init__()
        self.patch_embed = patch_embed
        self.cls_positional_encoding = cls_positional_encoding

    def forward(self, clips: Tensor) -> Tensor:
        tokens: Tensor = self.cls_positional_encoding(self.patch_embed(clips))
        return tokens


class _AttentionStage(nn.Module):
    """A multiscale block with its token grid, which is fixed because clips have one shape."""

    def __init__(self, block: nn.Module, grid: list[int]) -> None:
        super().__init__()
        self.block = block
        self.grid = grid

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.block(tokens, self.grid)[0]
        return out


class MViT(Backbone):
    """MViT-B (Fan et al. 2021): embed, block0..block15, norm. Class token, D = 768, T' = 1."""

    classifier = "head.linear"
    halvings = (1, 3, 14)

    def __init__(self, net: Any, spec: ClipSpec, *, dropout: float = 0.5) -> None:
        super().__init__(spec)
        encoding = net.cls_positional_encoding
        grid = list(encoding.patch_embed_shape)
        stages: dict[str, nn.Module] = {"embed": _Embed(net.patch_embed, encoding)}
        for i, block in enumerate(net.blocks):
            stages[f"block{i}"] = _AttentionStage(block, list(grid))
            if i in self.halvings:
                grid[1:] = [-(-n // 2) for n in grid[1:]]
        stages["norm"] = net.norm_embed
        self.stages = nn.ModuleDict(stages)
        self.head = MeanHead(net.head.proj, dropout)

    def leave(self, x: Tensor, batch: int) -> Tensor:
        """Tokens (B, N, 768) -> the class token as features (B, 768, 1)."""
        return x[:, 0].float()[:, :, None]


def i3d_r50(num_classes: int, spec: ClipSpec | None = None) -> PairPooledResNet:
    """Build I3D-R50: ResNet-50 with inflated 3x1x1 kernels, 8 frames at stride 8."""
    net = _hub("i3d_r50")(model_num_class=num_classes)
    return PairPooledResNet(net, spec or SPECS["i3d_r50"])


def c2d_r50(num_classes: int, spec: ClipSpec | None = None) -> PairPooledResNet:
    """Build C2D-R50: ResNet-50 per frame, one pooling over pairs, 8 frames at stride 8."""
    net = _hub("c2d_r50")(model_num_class=num_classes)
    return PairPooledResNet(net, spec or SPECS["c2d_r50"])


def slow_r50(num_classes: int, spec: ClipSpec | None = None) -> VideoResNet:
    """Build Slow-R50: the slow path of SlowFast, 8 frames at stride 8."""
    net = _hub("slow_r50")(model_num_class=num_classes)
    return VideoResNet(net, spec or SPECS["slow_r50"])


def r2plus1d_r50(num_classes: int, spec: ClipSpec | None = None) -> VideoResNet:
    """Build R(2+1)D with bottlenecks (Tran et al. 2018), 16 frames at stride 4."""
    net = _hub("r2plus1d_r50")(model_num_class=num_classes)
    return VideoResNet(net, spec or SPECS["r2plus1d_r50"])


def csn_r101(num_classes: int, spec: ClipSpec | None = None) -> VideoResNet:
    """Build ir-CSN of depth 101 (Tran et al. 2019), 32 frames at stride 2."""
    net = _hub("csn_r101")(model_num_class=num_classes)
    return VideoResNet(net, spec or SPECS["csn_r101"], dropout=0.0)


def slowfast_r50(num_classes: int, spec: ClipSpec | None = None) -> SlowFast:
    """Build SlowFast 8x8: 32 frames at stride 2, every fourth in the slow path."""
    net = _hub("slowfast_r50")(model_num_class=num_classes)
    return SlowFast(net, spec or SPECS["slowfast_r50"])


def _x3d(name: str, spec: ClipSpec, num_classes: int) -> X3D:
    # pytorchvideo's own Swish is the same function, but its backward uses deprecated torch calls.
    return X3D(_hub(name)(model_num_class=num_classes, inner_act=nn.SiLU), spec)


def x3d_xs(num_classes: int, spec: ClipSpec | None = None) -> X3D:
    """Build X3D-XS: 4 frames at stride 12, 160 px."""
    return _x3d("x3d_xs", spec or SPECS["x3d_xs"], num_classes)


def x3d_s(num_classes: int, spec: ClipSpec | None = None) -> X3D:
    """Build X3D-S: 13 frames at stride 6, 160 px."""
    return _x3d("x3d_s", spec or SPECS["x3d_s"], num_classes)


def x3d_m(num_classes: int, spec: ClipSpec | None = None) -> X3D:
    """Build X3D-M: 16 frames at stride 5, 224 px."""
    return _x3d("x3d_m", spec or SPECS["x3d_m"], num_classes)


def x3d_l(num_classes: int, spec: ClipSpec | None = None) -> X3D:
    """Build X3D-L: 16 frames at stride 5, 312 px, twice as deep."""
    return _x3d("x3d_l", spec or SPECS["x3d_l"], num_classes)


def _mvit(name: str, spec: ClipSpec, num_classes: int) -> MViT:
    if spec.num_frames % 2 or spec.size_px % 4:
        raise ValueError(
            f"the clip has {spec.num_frames} frames of {spec.size_px} px. {name} needs an even "
            "number of frames, and a size that is a multiple of 4 px."
        )
    net = _hub(name)(
        head_num_classes=num_classes, spatial_size=spec.size_px, temporal_size=spec.num_frames
    )
    return MViT(net, spec)


def mvit_b_16x4(num_classes: int, spec: ClipSpec | None = None) -> MViT:
    """Build MViT-B: 16 frames at stride 4."""
    return _mvit("mvit_base_16x4", spec or SPECS["mvit_b_16x4"], num_classes)


def mvit_b_32x3(num_classes: int, spec: ClipSpec | None = None) -> MViT:
    """Build MViT-B: 32 frames at stride 3."""
    return _mvit("mvit_base_32x3", spec or SPECS["mvit_b_32x3"], num_classes)
