"""Translate the parameter names of each publisher into ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from touchline.models.backbone import ClipSpec
from touchline.models.networks import c3d, cnn_lstm, i3d, pose, pytorchvideo
from touchline.models.networks.cnn2d import mobilenet_v2_stages
from touchline.models.networks.efficientnet_lite import LITE0, LITE1, LITE2, Scaling


@dataclass(frozen=True)
class KeyMap:
    """The names of one publisher and how they become ours, prefix by prefix.

    Attributes:
        source: Who publishes files with these names.
        spec: The clip these networks were trained on. The metadata of a file may name another
            normalisation.
        prefixes: Their prefix -> ours. None: drop the keys, our network has no place for them (an
            image classifier).
        flat: True if the kernels are 2-D and are inflated on loading.
        rest: For a network of two: the stage that these files lack, and the name of the weights of
            the network in it.
    """

    source: str
    spec: ClipSpec
    prefixes: Mapping[str, str | None]
    flat: bool = False
    rest: tuple[str, str] | None = None

    @property
    def signature(self) -> str:
        """The first prefix. A file that has no key with it is not from this publisher."""
        return next(iter(self.prefixes))

    def takes(self, keys: Iterable[str]) -> bool:
        """Tell whether every key is known. Shapes do not count."""
        return all(key.startswith(tuple(self.prefixes)) for key in keys)

    def rename(self, key: str) -> str | None:
        """Return our name; None for a key that is dropped on purpose.

        Raises:
            KeyError: The key is unknown.
        """
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


def _efficientnet_lite(scaling: Scaling) -> dict[str, str | None]:
    """Map the blocks of EfficientNet-Lite-PyTorch, which are numbered through all stages."""
    prefixes: dict[str, str | None] = {
        "_conv_stem.": "stages.stem.conv.",
        "_bn0.": "stages.stem.bn.",
        "_conv_head.": "stages.last.conv.",
        "_bn1.": "stages.last.bn.",
        "_fc.": None,
    }
    blocks = [
        f"stages.block{block}.{i}."
        for block, repeats in enumerate(scaling.repeats, 1)
        for i in range(repeats)
    ]
    for number, ours in enumerate(blocks):
        for bn, step in enumerate(("expand", "depthwise", "project")):
            prefixes[f"_blocks.{number}._{step}_conv."] = f"{ours}{step}.conv."
            prefixes[f"_blocks.{number}._bn{bn}."] = f"{ours}{step}.bn."
    return prefixes


_RESNET50: dict[str, str | None] = {
    "conv1.weight": "stages.stem.conv1.weight",
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

_C3D: dict[str, str | None] = {
    **{
        f"conv{name}.conv.": f"stages.conv{name}.conv."
        for name in ("1a", "2a", "3a", "3b", "4a", "4b", "5a", "5b")
    },
    "fc6.": "stages.fc6.linear.",
    "fc7.": "stages.fc7.linear.",
    "fc8.": None,
}

# torchvision's GoogLeNet -> I3D. Blocks are numbered from a there, from b here.
_INCEPTION_BLOCKS = {
    f"inception{n}{a}": f"Mixed_{n}{b}"
    for n, a, b in (
        *(("3", a, b) for a, b in ("ab", "bc")),
        *(("4", a, b) for a, b in ("ab", "bc", "cd", "de", "ef")),
        *(("5", a, b) for a, b in ("ab", "bc")),
    )
}
_INCEPTION_BRANCHES = {
    "branch1": "b0",
    "branch2.0": "b1a",
    "branch2.1": "b1b",
    "branch3.0": "b2a",
    "branch3.1": "b2b",
    "branch4.1": "b3b",
}


def _inception_v1() -> dict[str, str | None]:
    units = {"conv1": "Conv3d_1a_7x7", "conv2": "Conv3d_2b_1x1", "conv3": "Conv3d_2c_3x3"}
    for theirs, ours in _INCEPTION_BLOCKS.items():
        for branch, unit in _INCEPTION_BRANCHES.items():
            units[f"{theirs}.{branch}"] = f"{ours}.{unit}"
    prefixes: dict[str, str | None] = {}
    for theirs, ours in units.items():
        prefixes[f"{theirs}.conv."] = f"stages.{ours}.conv3d."
        prefixes[f"{theirs}.bn."] = f"stages.{ours}.bn."
    return {**prefixes, "aux1.": None, "aux2.": None, "fc.": None}


def _blocks(names: str, *, inner: str = "", head: str) -> dict[str, str | None]:
    """Map pytorchvideo's numbered blocks to our stages; `head` is the prefix of its last layer."""
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
_PYTORCHVIDEO: dict[str, dict[str, str | None]] = {
    "i3d_r50": _CHAIN_POOL2,
    "c2d_r50": _CHAIN_POOL2,
    "slow_r50": _CHAIN,
    "r2plus1d_r50": _CHAIN,
    "csn_r101": _CHAIN,
    "slowfast_r50": _SLOWFAST,
    **dict.fromkeys(("x3d_xs", "x3d_s", "x3d_m", "x3d_l"), _X3D),
    **dict.fromkeys(("mvit_b_16x4", "mvit_b_32x3"), _MVIT),
}

_MOVENET: dict[str, str | None] = {
    f"{stage}.": f"stages.{stage}." for stage in ("mobilenet", "pyramid", "maps")
}

_MOBILENET = KeyMap("torchvision MobileNetV2", cnn_lstm.IMAGENET, _mobilenet_v2())

KEYMAPS: dict[str, tuple[KeyMap, ...]] = {
    "cnn_lstm": (_MOBILENET,),
    "cnn_lstm_r50": (KeyMap("torchvision ResNet-50", cnn_lstm.IMAGENET, _RESNET50),),
    **{
        f"cnn_lstm_lite{number}": (
            KeyMap("EfficientNet-Lite-PyTorch", scaling.spec, _efficientnet_lite(scaling)),
        )
        for number, scaling in enumerate((LITE0, LITE1, LITE2))
    },
    "pose": (
        KeyMap(
            "MoveNet for TensorFlow.js",
            pose.THUNDER,
            _MOVENET,
            rest=("stages.hands.network.", "efficientnet_lite0-imagenet"),
        ),
    ),
    "mobilenet3d": (replace(_MOBILENET, flat=True),),
    "c3d": (KeyMap("OpenMMLab C3D", c3d.SPORTS1M, _C3D),),
    "i3d": (
        KeyMap("pytorch-i3d", i3d.KINETICS, _I3D),
        KeyMap("torchvision GoogLeNet", i3d.KINETICS, _inception_v1(), flat=True),
    ),
    **{
        name: (KeyMap("pytorchvideo", pytorchvideo.SPECS[name], _PYTORCHVIDEO[name]),)
        for name in _PYTORCHVIDEO
    },
}
"""For each backbone the publishers whose files it takes, besides Touchline's checkpoints."""
