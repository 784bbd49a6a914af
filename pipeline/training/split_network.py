"""A backbone cut where its freezing ends: the frozen part runs fast, the rest is trained."""

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
    """From the cut on: what `CutNetwork.carry` gave, (B, ...) -> logits (B, K) float32."""

    def __init__(self, backbone: Backbone, cut: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.backbone = backbone
        self.cut = cut
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        backbone, B = self.backbone, len(x)
        if self.cut < len(backbone.stages):
            enabled = self.dtype != torch.float32
            with torch.autocast(x.device.type, dtype=self.dtype, enabled=enabled):
                if self.cut == 0:
                    x = backbone.enter(normalise(x.transpose(1, 2), backbone.spec))
                elif backbone.framewise:
                    x = x.flatten(0, 1)
                x = backbone.leave(backbone.run_stages(x, start=self.cut), B)
        logits: Tensor = backbone.head(x.float())
        return logits


class CutNetwork:
    """A backbone on its device: `carry` runs the frozen part once, `finish` the trained rest.

    train_statistics: BatchNorm of trained stages follows the batches; otherwise it keeps the
    statistics that it came with.
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
        self.device = pick_device(device)
        self.dtype = pick_dtype(precision, self.device)
        self.backbone = backbone.to(self.device)
        self.batch_size = batch_size
        self.train_statistics = train_statistics
        self.freeze(freeze)

    def freeze(self, stages: int) -> None:
        """Freeze the first `stages` stages and move the cut there."""
        backbone = self.backbone
        backbone.freeze(stages)
        self.cut = self._cut_at(stages)
        # BatchNorm of frozen stages is folded: the same function, about twice as fast.
        self._frozen = fast_copy(backbone, self.device, self.dtype) if self.cut else backbone
        part = TrainedPart(backbone, self.cut, self.dtype)
        ids = [self.device.index] if self.device.type == "cuda" else None
        several = current_world().size > 1
        self._part = DistributedDataParallel(part, device_ids=ids) if several else part

    def _cut_at(self, stages: int) -> int:
        # Between the stages of a network of several paths stands more than one tensor.
        whole_trunk = stages == len(self.backbone.stages)
        return stages if self.backbone.single_path or whole_trunk else 0

    @torch.no_grad()
    def carried_bytes(self, view: Tensor, stages: int) -> int:
        """How much is kept of a view (T, 3, S, S) uint8 with so many stages frozen; 0: nothing."""
        cut, backbone = self._cut_at(stages), self.backbone
        if cut == 0:
            return 0
        self.eval()
        pixels = normalise(view[None].to(self.device).transpose(1, 2), backbone.spec)
        x: Tensor = backbone.run_stages(backbone.enter(pixels), stop=cut)
        if cut == len(backbone.stages):
            return 4 * backbone.leave(x, 1).numel()
        return self.dtype.itemsize * x.numel()

    def train(self) -> None:
        """Training mode for what is trained; frozen stages stay as they are."""
        self.backbone.train()
        if not self.train_statistics:
            for module in self.backbone.stages.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def eval(self) -> None:
        self.backbone.eval()

    @contextmanager
    def synchronised(self, last: bool) -> Iterator[None]:
        """Around a pass in each direction: processes average gradients in the `last` of a step."""
        if isinstance(self._part, DistributedDataParallel) and not last:
            with self._part.no_sync():
                yield
        else:
            yield

    @torch.no_grad()
    def carry(self, views: Sequence[Tensor]) -> Tensor:
        """Views, each (T, 3, S, S) uint8 -> (N, ...): what the first trained part takes.

        uint8 clips where nothing is frozen, activations at the cut, or trunk features (N, D, T').
        """
        clips = torch.stack(list(views)).to(self.device)
        if self.cut == 0:
            return clips
        backbone, N = self._frozen, len(clips)
        pixels = normalise(clips.transpose(1, 2), backbone.spec).to(self.dtype)
        x: Tensor = backbone.run_stages(backbone.enter(pixels), stop=self.cut)
        if self.cut == len(backbone.stages):
            return backbone.leave(x, N).float()
        return x.reshape(N, -1, *x.shape[1:]) if backbone.framewise else x

    def finish(self, x: Tensor) -> Tensor:
        """What `carry` gave, (B, ...) -> logits (B, K) float32."""
        logits: Tensor = self._part(x.to(self.device))
        return logits

    @torch.no_grad()
    def score(self, inputs: Tensor) -> Tensor:
        """What `carry` gave, any number -> logits (N, K), in eval mode and without gradients."""
        self.eval()
        part = TrainedPart(self.backbone, self.cut, self.dtype)
        batches = torch.split(inputs, self.batch_size)
        return torch.cat([part(x.to(self.device)) for x in batches])
