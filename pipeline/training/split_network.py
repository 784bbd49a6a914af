"""Split a backbone where freezing ends: the frozen part runs once, the rest is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from touchline.models.backbone import Backbone, normalise
from touchline.models.inference import fast_copy, pick_device, pick_dtype
from touchline.pipeline.distributed import current_world


class TrainedPart(nn.Module):
    """The stages from `split_at` on and the head: frozen features (B, ...) -> logits (B, K)."""

    def __init__(self, backbone: Backbone, split_at: int, dtype: torch.dtype) -> None:
        """Take the trained part of a network.

        Args:
            backbone: The whole network; it is shared, not copied.
            split_at: How many stages have run already.
            dtype: The type that the stages compute in; the head computes in float32.
        """
        super().__init__()
        self.backbone = backbone
        self.split_at = split_at
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Output of `SplitNetwork.run_frozen` (B, ...) -> logits (B, K) float32."""
        backbone, B = self.backbone, len(x)
        if self.split_at < len(backbone.stages):
            enabled = self.dtype != torch.float32
            with torch.autocast(x.device.type, dtype=self.dtype, enabled=enabled):
                if self.split_at == 0:
                    x = backbone.enter(normalise(x.transpose(1, 2), backbone.spec))
                elif backbone.framewise:
                    x = x.flatten(0, 1)
                x = backbone.leave(backbone.run_stages(x, start=self.split_at), B)
        logits: Tensor = backbone.head(x.float())
        return logits


class SplitNetwork:
    """A backbone on its device, split in two: the frozen stages and the trained rest.

    clips -> run_frozen -> features -> run_trained -> logits

    Frozen features do not change during training, so they can be computed once and kept.

    Attributes:
        backbone: The whole network.
        split_at: How many stages `run_frozen` runs; the following ones belong to `run_trained`.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        freeze: int,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int = 8,
        train_statistics: bool = True,
    ) -> None:
        """Move the backbone to its device and freeze its first stages.

        Args:
            backbone: The network, changed in place.
            freeze: How many stages to freeze.
            device: auto, cpu, cuda, cuda:1 or mps.
            precision: auto (bf16 where it is faster), float32 or bf16.
            batch_size: Clips per pass of `score`.
            train_statistics: Whether BatchNorm of trained stages uses the statistics of each batch;
                False keeps the statistics from before training.
        """
        self.device = pick_device(device)
        self.dtype = pick_dtype(precision, self.device)
        self.backbone = backbone.to(self.device)
        self.batch_size = batch_size
        self.train_statistics = train_statistics
        self.freeze(freeze)

    def freeze(self, stages: int) -> None:
        """Freeze the first `stages` stages and split the network behind them."""
        backbone = self.backbone
        backbone.freeze(stages)
        self.split_at = self._split_point(stages)
        # BatchNorm of frozen stages is folded: the same function, about twice as fast.
        self._frozen = fast_copy(backbone, self.device, self.dtype) if self.split_at else backbone
        part = TrainedPart(backbone, self.split_at, self.dtype)
        ids = [self.device.index] if self.device.type == "cuda" else None
        several = current_world().size > 1
        self._part = DistributedDataParallel(part, device_ids=ids) if several else part

    def _split_point(self, stages: int) -> int:
        # A network of several paths passes more than one tensor from stage to stage.
        whole_trunk = stages == len(self.backbone.stages)
        return stages if self.backbone.single_path or whole_trunk else 0

    @torch.no_grad()
    def feature_bytes(self, view: Tensor, stages: int) -> int:
        """Return the size of the features of one view (T, 3, S, S) with `stages` stages frozen.

        The size is 0 if the network cannot be split there.
        """
        split_at, backbone = self._split_point(stages), self.backbone
        if split_at == 0:
            return 0
        self.eval()
        pixels = normalise(view[None].to(self.device).transpose(1, 2), backbone.spec)
        if split_at == len(backbone.stages):
            return 4 * backbone.features(pixels).numel()
        x: Tensor = backbone.run_stages(backbone.enter(pixels), stop=split_at)
        return self.dtype.itemsize * x.numel()

    def train(self) -> None:
        """Set trained stages to training mode; frozen stages stay in evaluation mode."""
        self.backbone.train()
        if not self.train_statistics:
            for module in self.backbone.stages.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def eval(self) -> None:
        """Set the whole network to evaluation mode."""
        self.backbone.eval()

    @contextmanager
    def synchronised(self, last: bool) -> Iterator[None]:
        """Wrap one forward and backward pass; processes average gradients in the `last` of a step.

        Without it every pass of an accumulated step would wait for the other processes.
        """
        if isinstance(self._part, DistributedDataParallel) and not last:
            with self._part.no_sync():
                yield
        else:
            yield

    @torch.no_grad()
    def run_frozen(self, views: Sequence[Tensor]) -> Tensor:
        """Run the frozen stages on N views, each (T, 3, S, S) uint8 -> features (N, ...).

        Features are uint8 clips if nothing is frozen, trunk features (N, D, T') float32 if every
        stage is, and the activations at the split otherwise.
        """
        clips = torch.stack(list(views)).to(self.device)
        if self.split_at == 0:
            return clips
        backbone, N = self._frozen, len(clips)
        pixels = normalise(clips.transpose(1, 2), backbone.spec).to(self.dtype)
        if self.split_at == len(backbone.stages):
            return backbone.features(pixels)
        x: Tensor = backbone.run_stages(backbone.enter(pixels), stop=self.split_at)
        return x.reshape(N, -1, *x.shape[1:]) if backbone.framewise else x

    def run_trained(self, x: Tensor) -> Tensor:
        """Run the trained stages and head: frozen features (B, ...) -> logits (B, K) float32."""
        logits: Tensor = self._part(x.to(self.device))
        return logits

    @torch.no_grad()
    def score(self, inputs: Tensor) -> Tensor:
        """Frozen features (N, ...) -> logits (N, K), in evaluation mode, without gradients."""
        self.eval()
        part = TrainedPart(self.backbone, self.split_at, self.dtype)
        batches = torch.split(inputs, self.batch_size)
        return torch.cat([part(x.to(self.device)) for x in batches])
