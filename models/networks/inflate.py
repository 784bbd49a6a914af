"""Image networks made into video networks (Carreira & Zisserman 2017, section 2.4.1).

A 2-D kernel is repeated over time and divided by its length, so that on a still clip the video
network computes what the image network does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def inflate_kernel(kernel: Tensor, length: int) -> Tensor:
    """Kernel (O, I, H, W) -> (O, I, length, H, W), summing to the original over time."""
    if kernel.ndim != 4 or length < 1:
        raise ValueError(
            f"kernel has shape {tuple(kernel.shape)}, length is {length}; "
            "a 2-D kernel (O, I, H, W) and a length of at least 1 were expected"
        )
    return kernel.unsqueeze(2).repeat(1, 1, length, 1, 1) / length


class EdgeConv3d(nn.Conv3d):
    """A 3-D convolution that pads space with zeros, but time with its edge frames.

    Zeros would make the first and last frames of a still clip darker than the rest. `padding` is
    that of space alone; an odd kernel's length over time is kept.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', ceil(T / stride), H', W')."""
        pad = self.kernel_size[0] // 2
        if pad:
            first, last = input[:, :, :1], input[:, :, -1:]
            input = torch.cat([first] * pad + [input] + [last] * pad, dim=2)
        return super().forward(input)


def inflate_module(module: nn.Module, *, length: int, stride: int = 1) -> nn.Module:
    """The module with 3-D layers in place of its 2-D ones, inflated, under the same names.

    Convolutions larger than 1x1 get `length` frames, of which they take every `stride`-th where
    they skip pixels; 1x1 convolutions stay pointwise. Changes the module in place where it can.
    """
    if isinstance(module, nn.Conv2d):
        return _inflate_conv(module, length, stride)
    if isinstance(module, nn.BatchNorm2d):
        norm = nn.BatchNorm3d(module.num_features, module.eps, module.momentum)
        norm.load_state_dict(module.state_dict())
        return norm
    for name, child in module.named_children():
        setattr(module, name, inflate_module(child, length=length, stride=stride))
    return module


def _inflate_conv(conv: nn.Conv2d, length: int, stride: int) -> nn.Conv3d:
    if isinstance(conv.padding, str):
        raise ValueError(f"padding is {conv.padding!r}; give it in numbers to inflate")
    pointwise = conv.kernel_size == (1, 1)
    depth = 1 if pointwise else length
    step = 1 if pointwise or conv.stride == (1, 1) else stride
    inflated = EdgeConv3d(
        conv.in_channels,
        conv.out_channels,
        (depth, conv.kernel_size[0], conv.kernel_size[1]),
        (step, conv.stride[0], conv.stride[1]),
        (0, conv.padding[0], conv.padding[1]),
        groups=conv.groups,
        bias=conv.bias is not None,
    )
    with torch.no_grad():
        inflated.weight.copy_(inflate_kernel(conv.weight, depth))
        if conv.bias is not None and inflated.bias is not None:
            inflated.bias.copy_(conv.bias)
    return inflated
