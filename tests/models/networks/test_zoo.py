"""The networks taken from pytorchvideo compute what pytorchvideo computes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.catalog import build_backbone
from touchline.models.networks import pytorchvideo
from touchline.models.weights.open import open_weights

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = 5


@dataclass(frozen=True)
class Source:
    """How pytorchvideo builds the network, so that it gives logits for a clip.

    pools: pool kernels that cover the clip's whole grid, as the published ones cover that of the
    published clip; each under its module's name.
    """

    hub: str
    frames: int
    size_px: int
    options: dict[str, Any] = field(default_factory=dict)
    pools: dict[str, tuple[int, int, int]] = field(default_factory=dict)


NO_SOFTMAX = {"head_activation": None}
SMALL = {
    "i3d_r50": Source("i3d_r50", 4, 64, pools={"blocks.6.pool": (2, 2, 2)}),
    "c2d_r50": Source("c2d_r50", 4, 64, pools={"blocks.6.pool": (2, 2, 2)}),
    "slow_r50": Source("slow_r50", 4, 64, pools={"blocks.5.pool": (4, 2, 2)}),
    "r2plus1d_r50": Source("r2plus1d_r50", 8, 64, NO_SOFTMAX, pools={"blocks.5.pool": (2, 2, 2)}),
    "csn_r101": Source("csn_r101", 8, 64, pools={"blocks.5.pool": (1, 2, 2)}),
    "slowfast_r50": Source(
        "slowfast_r50",
        8,
        64,
        pools={"blocks.5.pool.0": (2, 2, 2), "blocks.5.pool.1": (8, 2, 2)},
    ),
    "x3d_s": Source("x3d_s", 5, 64, NO_SOFTMAX, pools={"blocks.5.pool.pool": (5, 2, 2)}),
    "mvit_b_16x4": Source("mvit_base_16x4", 4, 64, {"temporal_size": 4, "spatial_size": 64}),
}

HUB_NAMES = {"mvit_b_16x4": "mvit_base_16x4", "mvit_b_32x3": "mvit_base_32x3"}
PUBLISHED = {
    name: Source(
        HUB_NAMES.get(name, name),
        spec.num_frames,
        spec.size_px,
        NO_SOFTMAX if name.startswith(("x3d", "r2plus1d")) else {},
    )
    for name, spec in pytorchvideo.SPECS.items()
}


def original(source: Source) -> nn.Module:
    """pytorchvideo's network with random weights in which no branch is silent."""
    torch.manual_seed(0)
    classes = "head_num_classes" if "mvit" in source.hub else "model_num_class"
    net: nn.Module = pytorchvideo._hub(source.hub)(**{classes: CLASSES}, **source.options)
    for name, kernel in source.pools.items():
        parent, _, child = name.rpartition(".")
        setattr(net.get_submodule(parent), child, nn.AvgPool3d(kernel, stride=1))
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 1 or not p.any():
                p.add_(torch.empty_like(p).uniform_(-0.2, 0.2))
    return net.eval()


def their_logits(net: nn.Module, name: str, clip: Tensor) -> Tensor:
    with torch.no_grad():
        if name != "slowfast_r50":
            return net(clip)
        # The slow path as pytorchvideo's tutorial picks it.
        T = clip.shape[2]
        slow = torch.index_select(clip, 2, torch.linspace(0, T - 1, T // 4).long())
        return net([slow, clip.clone()])


def ours_with_their_weights(name: str, net: nn.Module, source: Source, folder: Path) -> Backbone:
    """Through a file as pytorchvideo publishes it."""
    path = folder / f"{name}.pyth"
    torch.save({"model_state": net.state_dict(), "epoch": 3, "cfg": "MODEL: {}"}, path)
    weights = open_weights(path, name)
    spec = weights.spec.with_sampling(num_frames=source.frames, size_px=source.size_px)
    backbone = build_backbone(name, CLASSES, spec).eval()
    weights.load_into(backbone, classifier=True)
    path.unlink()
    return backbone


def assert_same_logits(name: str, source: Source, folder: Path) -> None:
    net = original(source)
    clip = torch.randn(1, 3, source.frames, source.size_px, source.size_px)
    theirs = their_logits(net, name, clip)
    backbone = ours_with_their_weights(name, net, source, folder)
    with torch.no_grad():
        ours = backbone(clip)
    assert theirs.std() > 1e-4, "the logits say nothing"
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_small_clip_gives_the_logits_of_the_source(name: str, tmp_path: Path) -> None:
    assert_same_logits(name, SMALL[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_clip_gives_the_logits_of_the_source(name: str, tmp_path: Path) -> None:
    assert_same_logits(name, PUBLISHED[name], tmp_path)


def test_position_tables_follow_the_clip(tmp_path: Path) -> None:
    source = SMALL["mvit_b_16x4"]
    net = original(source)
    longer = Source(source.hub, 8, 96)
    backbone = ours_with_their_weights("mvit_b_16x4", net, longer, tmp_path)
    tables = backbone.get_submodule("stages.embed.cls_positional_encoding")
    assert tables.pos_embed_temporal.shape == (1, 4, 96)
    assert tables.pos_embed_spatial.shape == (1, 24 * 24, 96)


def test_the_slow_path_of_slowfast_has_the_first_and_the_last_frame() -> None:
    backbone = build_backbone("slowfast_r50", 2, ClipSpec(32, 15.0, 32))
    clip = torch.arange(32.0).reshape(1, 1, 32, 1, 1).expand(1, 3, 32, 32, 32)
    slow, fast = backbone.enter(clip)
    # linspace(0, 31, 8) cut down to whole frames.
    assert slow[0, 0, :, 0, 0].tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
    assert fast[0, 0, :, 0, 0].tolist() == list(range(32))


def test_nothing_stands_in_for_torchvision_afterwards() -> None:
    program = (
        "import sys; from touchline.models.catalog import build_backbone as b\n"
        "assert 'pytorchvideo' not in sys.modules\n"
        "before = {n for n in sys.modules if n.startswith('torchvision')}\n"
        "b('x3d_xs', 2)\n"
        "assert 'pytorchvideo' in sys.modules\n"
        "stand_ins = [n for n, m in sys.modules.items() if n.startswith('torchvision')"
        " and getattr(m, '__file__', None) is None]\n"
        "assert not stand_ins, stand_ins"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_a_torchvision_that_raises_on_import_is_stood_in_for(tmp_path: Path) -> None:
    # As the CUDA build of torchvision does beside a CPU build of torch.
    broken = tmp_path / "torchvision"
    broken.mkdir()
    (broken / "__init__.py").write_text("from . import extension\n", encoding="utf-8")
    (broken / "extension.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n", encoding="utf-8"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from touchline.models.catalog import build_backbone as b\n"
        "b('x3d_xs', 2)\n"
        "assert not [n for n in sys.modules if n.startswith('torchvision')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
