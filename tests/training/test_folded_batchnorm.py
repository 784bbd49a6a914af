"""Folded BatchNorm: found, given statistics, and the function is kept."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from train_material import made_examples

from touchline.models.backbone import Backbone
from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import TrainedModel
from touchline.pipeline.training.finetune import fine_tune
from touchline.pipeline.training.folded_batchnorm import folded_layers, settle_batchnorm
from touchline.pipeline.training.optimize import Average
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.split_network import SplitNetwork

FROZEN = 6  # of stem, block1 .. block7, last


def folded_backbone() -> Backbone:
    """MobileNetV2 as it is published folded: identity statistics, learnt biases."""
    torch.manual_seed(0)
    plain = build_backbone("cnn_lstm", 3)
    spec = plain.spec.with_sampling(num_frames=2, rate_hz=2.0, size_px=32)
    backbone = build_backbone("cnn_lstm", 3, spec)
    for layer in batchnorms(backbone):
        nn.init.normal_(layer.bias, std=0.5)
        layer.running_var.fill_(1 - layer.eps)
    return backbone


def batchnorms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]


def batches(network: SplitNetwork) -> list[Tensor]:
    torch.manual_seed(1)
    views = [torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8) for _ in range(12)]
    return [network.run_frozen(views[:8]), network.run_frozen(views[8:])]


def split(backbone: Backbone) -> SplitNetwork:
    return SplitNetwork(backbone, freeze=FROZEN, device="cpu", precision="float32")


def test_only_trained_folded_layers_are_found() -> None:
    backbone = folded_backbone()
    backbone.freeze(FROZEN)
    trained = [*backbone.stages["block6"].modules(), *backbone.stages["block7"].modules()]
    trained += backbone.stages["last"].modules()
    expected = [layer for layer in trained if isinstance(layer, nn.BatchNorm2d)]
    found = folded_layers(backbone)
    assert list(found.values()) == expected
    assert all(backbone.get_submodule(name) is layer for name, layer in found.items())
    backbone.freeze(len(backbone.stages))
    assert folded_layers(backbone) == {}


def test_random_layers_and_layers_with_statistics_are_not_folded() -> None:
    random = build_backbone("cnn_lstm", 3)
    assert folded_layers(random) == {}
    published = folded_backbone()
    for layer in batchnorms(published):
        layer.running_mean.fill_(0.1)
    assert folded_layers(published) == {}


def test_settling_keeps_the_function_and_gives_the_mean_and_variance_of_the_clips() -> None:
    network = split(folded_backbone())
    clips = batches(network)
    before = [network.score(x) for x in clips]
    seen: list[Tensor] = []
    first = next(iter(folded_layers(network.backbone).values()))
    hook = first.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    assert len(settle_batchnorm(network, clips)) == 13
    hook.remove()
    after = [network.score(x) for x in clips]
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    x = torch.cat(seen).transpose(0, 1).flatten(1)
    torch.testing.assert_close(first.running_mean, x.mean(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        first.running_var, x.var(dim=1, correction=0).clamp_min(1e-3), rtol=1e-4, atol=1e-5
    )
    assert folded_layers(network.backbone) == {}


@pytest.mark.slow
@torch.no_grad()
def test_once_settled_a_training_pass_computes_what_evaluation_does() -> None:
    unsettled = split(folded_backbone())
    settled = split(copy.deepcopy(unsettled.backbone))
    clips = torch.cat(batches(settled))
    settle_batchnorm(settled, [clips])
    # What dropout does to the logits is not the question.
    expected = features(settled, clips)

    def error(network: SplitNetwork) -> float:
        network.train()
        return float((features(network, clips) - expected).abs().mean() / expected.abs().mean())

    assert error(settled) < 0.05
    assert error(unsettled) > 0.3


def features(network: SplitNetwork, x: Tensor) -> Tensor:
    backbone = network.backbone
    return backbone.leave(backbone.run_stages(x.flatten(0, 1), start=FROZEN), len(x))


def test_nothing_is_settled_where_nothing_is_folded() -> None:
    network = split(build_backbone("cnn_lstm", 3))
    assert settle_batchnorm(network, []) == []


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_channel_that_never_varies_stays_finite(value: float) -> None:
    network = split(folded_backbone())
    first = next(iter(folded_layers(network.backbone).values()))
    first.register_forward_pre_hook(lambda _, args: (torch.full_like(args[0], value),))
    clips = batches(network)
    settle_batchnorm(network, clips)
    assert torch.isfinite(network.score(clips[0])).all()
    assert float(first.running_var.min()) == pytest.approx(1e-3)


def test_an_average_of_the_weights_takes_settled_layers_over() -> None:
    network = split(folded_backbone())
    (clips, *_) = batches(network)
    before = network.score(clips)
    average = Average(network.backbone, 0.999)
    average.adopt(network.backbone, settle_batchnorm(network, [clips]))
    average.update(network.backbone)
    with average.applied(network.backbone):
        torch.testing.assert_close(network.score(clips), before, rtol=1e-4, atol=1e-5)


def test_a_first_step_that_is_not_finite_leaves_the_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(*_: object) -> Tensor:
        return torch.tensor(float("nan"))

    monkeypatch.setattr("touchline.pipeline.training.finetune.nn.utils.clip_grad_norm_", diverged)
    backbone = folded_backbone()
    network = split(backbone)
    (clips, *_) = batches(network)
    before = network.score(clips)
    model = TrainedModel(backbone, "cnn_lstm", ("background", "blue", "red"))
    examples = made_examples(tmp_path, ("blue", "red"), 2)
    options = TrainOptions(freeze=FROZEN, epochs=1, batch_size=1, max_skipped=1)
    result = fine_tune(model, examples, [], options, device="cpu")
    assert result.stopped == "diverged"
    after = split(result.model.backbone)
    torch.testing.assert_close(after.score(clips), before, rtol=1e-4, atol=1e-5)
