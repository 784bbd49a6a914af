"""How the parameter names of each source become ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from touchline.models import cnn_lstm, i3d, zoo
from touchline.models.backbone import ClipSpec
from touchline.models.cnn2d import mobilenet_v2_stages


@dataclass(frozen=True)
class KeyMap:
    """The names of one source: each prefix is replaced by ours, or its keys dropped on purpose.

    source: who publishes files with these names.
    spec: the clip those networks were trained on; a file's own metadata may tell another
    normalisation.
    prefixes: theirs -> ours; None drops what has no place in our network (an image classifier).
    """

    source: str
    spec: ClipSpec
    prefixes: Mapping[str, str | None]

    @property
    def signature(self) -> str:
        """The first prefix: a file that has no key with it is not from this source."""
        return next(iter(self.prefixes))

    def fits(self, keys: Iterable[str]) -> bool:
        return any(key.startswith(self.signature) for key in keys)

    def rename(self, key: str) -> str | None:
        """Our name, or None for a key dropped on purpose; KeyError for an unknown one."""
        for theirs, ours in self.prefixes.items():
            if key.startswith(theirs):
                return None if ours is None else ours + key[len(theirs) :]
        raise KeyError(key)


def _mobilenet_v2() -> dict[str, str | None]:
    stages, _ = mobilenet_v2_stages()
    prefixes: dict[str, str | None] = {
        f"features.{index}.": f"stages.{name}.{index}."
        for name, stage in stages.items()
        for index, _ in stage.named_children()
    }
    return {**prefixes, "classifier.": None}


_RESNET50: dict[str, str | None] = {
    "conv1.": "stages.stem.conv1.",
    "bn1.": "stages.stem.bn1.",
    **{f"layer{i}.": f"stages.layer{i}." for i in (1, 2, 3, 4)},
    "fc.": None,
}

_I3D_ENDPOINTS = (
    *("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3", "Mixed_3b", "Mixed_3c"),
    *("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f", "Mixed_5b", "Mixed_5c"),
)
_I3D: dict[str, str | None] = {
    **{f"{name}.": f"stages.{name}." for name in _I3D_ENDPOINTS},
    "logits.conv3d.": "head.linear.",
}


def _blocks(names: str, *, inner: str = "", head: str) -> dict[str, str | None]:
    """pytorchvideo's numbered blocks as our stages; `head` is the prefix of its last layer."""
    prefixes: dict[str, str | None] = {
        f"blocks.{i}.": f"stages.{name}.{inner}" for i, name in enumerate(names.split())
    }
    return {**prefixes, head: "head.linear."}


_CHAIN = _blocks("stem res2 res3 res4 res5", head="blocks.5.proj.")
_CHAIN_POOL2 = _blocks("stem res2 pool2 res3 res4 res5", head="blocks.6.proj.")
_SLOWFAST = _blocks("stem res2 res3 res4 res5", inner="block.", head="blocks.6.proj.")
_X3D: dict[str, str | None] = {
    **_CHAIN,
    "blocks.5.pool.post_conv.": "head.post_conv.",
    "blocks.5.pool.": "stages.conv5.",
}
_MVIT: dict[str, str | None] = {
    "patch_embed.": "stages.embed.patch_embed.",
    "cls_positional_encoding.": "stages.embed.cls_positional_encoding.",
    **{f"blocks.{i}.": f"stages.block{i}.block." for i in range(16)},
    "norm_embed.": "stages.norm.",
    "head.proj.": "head.linear.",
}
_ZOO: dict[str, dict[str, str | None]] = {
    "i3d_r50": _CHAIN_POOL2,
    "c2d_r50": _CHAIN_POOL2,
    "slow_r50": _CHAIN,
    "r2plus1d_r50": _CHAIN,
    "csn_r101": _CHAIN,
    "slowfast_r50": _SLOWFAST,
    **dict.fromkeys(("x3d_xs", "x3d_s", "x3d_m", "x3d_l"), _X3D),
    **dict.fromkeys(("mvit_b_16x4", "mvit_b_32x3"), _MVIT),
}

KEYMAPS: dict[str, tuple[KeyMap, ...]] = {
    "cnn_lstm": (KeyMap("torchvision MobileNetV2", cnn_lstm.IMAGENET, _mobilenet_v2()),),
    "cnn_lstm_r50": (KeyMap("torchvision ResNet-50", cnn_lstm.IMAGENET, _RESNET50),),
    "i3d": (KeyMap("pytorch-i3d", i3d.KINETICS, _I3D),),
    **{name: (KeyMap("pytorchvideo", zoo.SPECS[name], _ZOO[name]),) for name in _ZOO},
}
"""For each backbone the sources whose files it takes."""
