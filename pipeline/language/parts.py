"""The parts of a language model: what is frozen, and what is trained."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import nn

from touchline.pipeline.language.options import LAST_BLOCKS, LanguageOptions


@dataclass(frozen=True)
class Part:
    """A part of a network in the table of parts.

    Attributes:
        name: embeddings, blocks 0-23, output; final norm, where the output layer is the embeddings.
        parameters: How many parameters it has.
        trained: How many of them are trained.
    """

    name: str
    parameters: int
    trained: int

    @property
    def state(self) -> str:
        """frozen, trained, or frozen + LoRA."""
        if not self.trained:
            return "frozen"
        return "trained" if self.trained == self.parameters else "frozen + LoRA"


def blocks_of(network: nn.Module) -> nn.ModuleList:
    """Return the blocks: the list of modules with the most parameters.

    Raises:
        ValueError: The network has no such list.
    """
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ValueError("the model has no list of blocks, so nothing of it can be frozen")
    return max(lists, key=lambda blocks: sum(p.numel() for p in blocks.parameters()))


def num_frozen_blocks(options: LanguageOptions, num_blocks: int) -> int | None:
    """Return how many blocks stay frozen; None if everything is trained.

    Args:
        options: `freeze`, `lora` and `scratch`.
        num_blocks: How many blocks the network has.

    Raises:
        ValueError: Nothing would be left to train.
    """
    if options.scratch or options.freeze == "none":
        return None
    if options.freeze == "auto":
        if options.lora is not None:
            return 0
        return max(num_blocks - LAST_BLOCKS, num_blocks // 2)
    number = int(options.freeze)
    if number >= num_blocks:
        raise ValueError(
            f"freeze is {number}, but the model has {num_blocks} blocks. Freeze at most "
            f"{num_blocks - 1} of them"
        )
    return number


def freeze_first(network: nn.Module, num_blocks: int | None) -> None:
    """Freeze the embeddings and the first blocks; train the rest.

    An output layer that shares the embeddings is frozen with them.

    Args:
        network: A language model of transformers.
        num_blocks: How many blocks to freeze. None: nothing is frozen.
    """
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    if num_blocks is None:
        return
    for module in (*_embeddings(network), *list(blocks_of(network))[:num_blocks]):
        for parameter in module.parameters():
            parameter.requires_grad_(False)


def add_lora(network: nn.Module, rank: int, *, first_block: int, seed: int) -> Any:
    """Freeze a network and add low-rank matrices to the linear layers of its blocks.

    Args:
        network: A language model of transformers; it is changed.
        rank: Of the matrices.
        first_block: Blocks before this one get none.
        seed: Of the random matrices.

    Returns:
        The model of peft around it; its `merge_and_unload` adds the matrices to the layers.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    chosen = {
        module
        for block in list(blocks_of(network))[first_block:]
        for module in block.modules()
        if isinstance(module, nn.Linear | Conv1D)
    }
    names = [name for name, module in network.named_modules() if module in chosen]
    torch.manual_seed(seed)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=names
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(network, config)


def parts_of(network: nn.Module) -> list[Part]:
    """Return the table of parts; blocks in a row that are alike are one part.

    Args:
        network: A language model of transformers, or one of peft around it.
    """
    blocks = list(blocks_of(network))
    embeddings = _counted("embeddings", _embeddings(network))
    ids = {id(p) for module in (*_embeddings(network), *blocks) for p in module.parameters()}
    rest = [p for p in network.parameters() if id(p) not in ids]
    each = [_counted("", [block]) for block in blocks]
    rows = [embeddings]
    first = 0
    for _, run in groupby(each, key=lambda part: part.state):
        parts = list(run)
        last = first + len(parts) - 1
        name = f"block {first}" if last == first else f"blocks {first}-{last}"
        rows.append(Part(name, sum(p.parameters for p in parts), sum(p.trained for p in parts)))
        first = last + 1
    output: Any = network.get_output_embeddings()  # type: ignore[operator]
    is_tied = output is not None and any(id(p) in ids for p in output.parameters())
    name = "final norm" if is_tied else "output"
    rows.append(Part(name, sum(p.numel() for p in rest), _trained(rest)))
    return rows


def _counted(name: str, modules: Sequence[nn.Module]) -> Part:
    parameters = list({id(p): p for m in modules for p in m.parameters()}.values())
    return Part(name, sum(p.numel() for p in parameters), _trained(parameters))


def _trained(parameters: Sequence[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters if p.requires_grad)


def _embeddings(network: nn.Module) -> list[nn.Module]:
    """The embeddings of tokens and, where there are any, of positions."""
    return [module for module in network.modules() if isinstance(module, nn.Embedding)]
