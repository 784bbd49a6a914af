"""Measure the statistics of BatchNorm layers that were merged into convolutions.

Some published weights have BatchNorm merged ("folded") into the convolutions, so their stored mean
(0) and variance (1) are placeholders. In evaluation the network is still the published one. In
training each layer would normalise by its batch for the first time, and one step would destroy what
the network knows. So before such layers train, Touchline measures mean and variance on the clips,
and adjusts weight and bias so that the output does not change.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from touchline.models.backbone import Backbone
from touchline.pipeline.distributed import current_world
from touchline.pipeline.training.split_network import SplitNetwork

# Keeps a channel that hardly varies on these clips from being amplified when it does.
MIN_VARIANCE = 1e-3


def folded_layers(backbone: Backbone) -> dict[str, _BatchNorm]:
    """Return the folded layers of trained stages by their names in the backbone.

    A layer is folded if its statistics are placeholders but its biases were learnt.
    """
    return {
        f"stages.{stage}.{name}": layer
        for stage in backbone.stage_names[backbone.num_frozen :]
        for name, layer in backbone.stages[stage].named_modules()
        if isinstance(layer, _BatchNorm) and _is_folded(layer)
    }


def _is_folded(layer: _BatchNorm) -> bool:
    if layer.running_mean is None or layer.running_var is None or not layer.affine:
        return False
    # Some tools leave the variance at 1 - eps, so that the layer is exactly the identity.
    near_one = (layer.running_var - 1).abs() <= 2 * layer.eps
    return not layer.running_mean.any() and bool(near_one.all()) and bool(layer.bias.any())


@torch.no_grad()
def settle_batchnorm(network: SplitNetwork, batches: Iterable[Tensor]) -> list[str]:
    """Measure mean and variance of folded layers on `batches`; return the names of the layers.

    Weights and biases change too, so that the network's output in evaluation stays the same.

    Args:
        network: The network.
        batches: Frozen features, from `SplitNetwork.run_frozen`; each process gives its own.
    """
    found = folded_layers(network.backbone)
    layers = list(found.values())
    if not layers:
        return []
    sums = {layer: torch.zeros(3, layer.num_features, dtype=torch.float64) for layer in layers}

    def add(into: Tensor, x: Tensor) -> None:
        x = x.transpose(0, 1).flatten(1).float()  # (C, N T H W); not every device has float64
        means = torch.stack([torch.ones_like(x[:, 0]), x.mean(dim=1), (x * x).mean(dim=1)])
        into += x.shape[1] * means.cpu().double()

    hooks = [
        layer.register_forward_pre_hook(lambda _, args, into=sums[layer]: add(into, args[0]))
        for layer in layers
    ]
    try:
        for x in batches:
            network.score(x)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, own in sums.items():
        count, total, squares = current_world().summed(own)
        mean = total / count
        _restate(layer, mean, (squares / count - mean**2).clamp_min(MIN_VARIANCE))
    return list(found)


def _restate(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Give a folded layer new statistics, and the weight and bias that keep its output."""
    mean, variance = mean.to(layer.weight), variance.to(layer.weight)
    # The old mean is 0, and the old variance is so near 1 that it changes nothing.
    layer.bias.add_(layer.weight * mean)
    layer.weight.mul_(torch.sqrt(variance + layer.eps))
    layer.load_state_dict(layer.state_dict() | {"running_mean": mean, "running_var": variance})
