"""A 2-D network per frame and an LSTM over time (Donahue et al. 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.networks.cnn2d import (
    frames_first,
    init_conv_weights,
    mobilenet_v2_stages,
    resnet50_stages,
)
from touchline.models.networks.efficientnet_lite import (
    LITE0,
    LITE1,
    LITE2,
    Scaling,
    efficientnet_lite_stages,
)

IMAGENET = ClipSpec(num_frames=16, rate_hz=8.0, size_px=224)


class LSTMHead(nn.Module):
    """Features (B, D, T) -> logits (B, K): an LSTM over time, dropout, linear.

    The linear layer gets the mean of the LSTM's states, because an event may lie anywhere in the
    window. It also gets the mean of the features: a few clips are enough to learn what pictures
    show, but not their order.

    Args:
        width: D.
        hidden: Size of the LSTM's state.
        num_classes: K.
        dropout: Share of the linear layer's inputs that are dropped in training.
    """

    def __init__(self, width: int, hidden: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden + width, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D, T) -> logits (B, K)."""
        features = features.transpose(1, 2)
        states, _ = self.lstm(features)  # (B, T, hidden)
        seen = torch.cat([states, features], dim=2).mean(dim=1)
        logits: Tensor = self.linear(self.dropout(seen))
        return logits


class CNNLSTM(Backbone):
    """A 2-D network on each frame, then an LSTM in the head.

    The LSTM belongs to the head. In the trunk, freezing would freeze it at random weights.

    Args:
        stages: The stages of the 2-D network.
        width: Channels of the last stage.
        spec: The clip.
        num_classes: K.
        hidden: Size of the LSTM's state.
        dropout: Dropout before the last layer.
    """

    framewise = True
    slides_in_time = True
    flattens = True
    min_size_px = 32
    classifier = "head.linear"

    def __init__(
        self,
        stages: dict[str, nn.Module],
        width: int,
        spec: ClipSpec,
        num_classes: int,
        *,
        hidden: int = 64,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(spec)
        self.stages = nn.ModuleDict(stages)
        init_conv_weights(self.stages)
        self.head = LSTMHead(width, hidden, num_classes, dropout)
        # If weights and frames have the same layout, a training step on the CPU takes a fifth less.
        self.stages.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def enter(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) -> (B * T, 3, H, W)."""
        # Channels last makes depthwise convolutions on a CPU twice as fast.
        return frames_first(clips).contiguous(memory_format=torch.channels_last)

    def leave(self, x: Tensor, batch: int) -> Tensor:
        """(B * T, D, H', W') -> features (B, D, T) float32: the spatial mean.

        With a dense head (B, D * H' * W', T): all places.
        """
        rows = x.float().flatten(1) if self.flat else x.float().mean(dim=(2, 3))
        return rows.reshape(batch, -1, rows.shape[1]).transpose(1, 2)


def cnn_lstm(num_classes: int, spec: ClipSpec | None = None) -> CNNLSTM:
    """Build CNN+LSTM: MobileNetV2 1.0 per frame, LSTM(64)."""
    stages, width = mobilenet_v2_stages()
    return CNNLSTM(stages, width, spec or IMAGENET, num_classes)


def cnn_lstm_r50(num_classes: int, spec: ClipSpec | None = None) -> CNNLSTM:
    """Build CNN+LSTM: ResNet-50 per frame, LSTM(64)."""
    stages, width = resnet50_stages()
    return CNNLSTM(stages, width, spec or IMAGENET, num_classes)


def cnn_lstm_lite0(num_classes: int, spec: ClipSpec | None = None) -> CNNLSTM:
    """Build CNN+LSTM: EfficientNet-Lite0 per frame, LSTM(64)."""
    return _lite(LITE0, num_classes, spec)


def cnn_lstm_lite1(num_classes: int, spec: ClipSpec | None = None) -> CNNLSTM:
    """Build CNN+LSTM: EfficientNet-Lite1 per frame, LSTM(64)."""
    return _lite(LITE1, num_classes, spec)


def cnn_lstm_lite2(num_classes: int, spec: ClipSpec | None = None) -> CNNLSTM:
    """Build CNN+LSTM: EfficientNet-Lite2 per frame, LSTM(64)."""
    return _lite(LITE2, num_classes, spec)


def _lite(scaling: Scaling, num_classes: int, spec: ClipSpec | None) -> CNNLSTM:
    stages, width = efficientnet_lite_stages(scaling)
    return CNNLSTM(stages, width, spec or scaling.spec, num_classes)
