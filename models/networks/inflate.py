"""Turn image networks into video networks (Carreira & Zisserman 2017, section 2.4.1).

A 2-D kernel is repeated over time and divided by its length. On a still clip, the video network
then computes the same as the image network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def inflate_kernel(kernel: Tensor, length: int) -> Tensor:
    """Kernel (O, I, H, W) -> (O, I, length, H, W), whose sum over time is the original.

    Raises:
        ValueError: The kernel is not 2-D, or `length` is below 1.
    """
    if kernel.ndim != 4 or length < 1:
        raise ValueError(
            f"kernel has shape {tuple(kernel.shape)}, length is {length}; the kernel must be 2-D, "
            "(O, I, H, W), and the length at least 1"
        )
    return kernel.unsqueeze(2).repeat(1, 1, length, 1, 1) / length


class EdgeConv3d(nn.Conv3d):
    """A 3-D convolution that pads space with zeros, and time with the first and last frame.

    Zeros would make the first and last frames of a still clip darker than the rest. `padding`
    counts for space only. A kernel of odd length keeps the number of frames.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', ceil(T / stride), H', W')."""
        pad = self.kernel_size[0] // 2
        if pad:
            first, last = input[:, :, :1], input[:, :, -1:]
            input = torch.cat([first] * pad + [input] + [last] * pad, dim=2)
        return super().forward(input)


def inflate_module(module: nn.Module, *, length: int, stride: int = 1) -> nn.Module:
    """Return the module with its 2-D layers inflated to 3-D ones, under the same names.

    The children of `module` are replaced in place. 1x1 convolutions become 1x1x1.

    Args:
        module: A 2-D network, or a layer of one.
        length: Frames in the kernel of larger convolutions, odd.
        stride: Stride over time of larger convolutions that have a stride over space.

    Raises:
        ValueError: The padding of a convolution is a word, not a number.
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
        raise ValueError(f"padding is {conv.padding!r}; it must be given in numbers")
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
