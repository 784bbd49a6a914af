"""Heads that several backbones use."""

from __future__ import annotations

from torch import Tensor, nn


class MeanHead(nn.Module):
    """Features (B, D, T) -> logits (B, K): mean over time, dropout, linear."""

    def __init__(self, linear: nn.Linear, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = linear

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D, T) -> logits (B, K)."""
        logits: Tensor = self.linear(self.dropout(features.mean(dim=2)))
        return logits


def fresh_linear(width: int, num_classes: int) -> nn.Linear:
    """Build a linear layer with weights N(0, 0.01) and biases 0."""
    linear = nn.Linear(width, num_classes)
    nn.init.normal_(linear.weight, 0.0, 0.01)
    nn.init.zeros_(linear.bias)
    return linear
