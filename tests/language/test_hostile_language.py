"""Damaged models, hostile text and odd values: one line that says what to do, no traceback."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command import touchline
from safetensors.torch import load_file, save_file

from touchline.models.errors import WeightsError
from touchline.pipeline.demonstration.options import DemoOptions
from touchline.pipeline.evaluation.options import EvaluateOptions
from touchline.pipeline.language.chat import Chat
from touchline.pipeline.language.options import ChatOptions, LanguageOptions
from touchline.pipeline.language.train import train_language
from touchline.pipeline.players.options import PlayersOptions


def damaged(model: Path, folder: Path) -> Path:
    """The model with weights that are no numbers."""
    shutil.copytree(model, folder)
    weights = load_file(model / "model.safetensors")
    none = {name: torch.full_like(value, torch.nan) for name, value in weights.items()}
    save_file(none, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_resume_without_an_unfinished_run_warns_and_begins(
    tiny: Path, matches: Path, tmp_path: Path, monkeypatch, capfd
) -> None:
    out = tmp_path / "lm"
    train = ["language", "train", matches, "-o", out, "--weights", tiny, "--context", "64"]
    code = touchline(monkeypatch, *train, "--max-seconds", "0.001", "--device", "cpu", "--resume")
    assert code == 0
    assert "holds no unfinished run" in capfd.readouterr().err
    assert (out / "model.safetensors").exists()


def test_a_model_that_gives_no_numbers_is_named(tiny: Path, matches: Path, tmp_path: Path) -> None:
    model = damaged(tiny, tmp_path / "damaged")
    with pytest.raises(WeightsError, match=r"damaged.*Copy or train the model again"):
        list(Chat(model, device="cpu").answer("hi"))
    options = LanguageOptions(weights=str(model), context=64, precision="float32")
    with pytest.raises(WeightsError, match=r"damaged.*Copy or train the model again"):
        train_language([matches], tmp_path / "lm", options, device="cpu")
    assert not (tmp_path / "lm" / "model.safetensors").exists()


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_folder_is_an_error_that_says_what_to_do(
    broken: str, tiny: Path, tmp_path: Path, monkeypatch, capfd
) -> None:
    model = tmp_path / "lm"
    shutil.copytree(tiny, model)
    if broken == "tokenizer.json":
        (model / broken).unlink()
    else:
        (model / broken).write_bytes((model / broken).read_bytes()[:60])
    assert touchline(monkeypatch, "chat", model, "--prompt", "hi") == 1
    said = capfd.readouterr().err
    assert str(model) in said.replace("\n", "")
    assert "copy" in said.lower()
    assert "Traceback" not in said


def test_what_is_said_need_not_be_utf8(tiny: Path) -> None:
    chat = Chat(tiny, ChatOptions(max_tokens=2), device="cpu")
    assert isinstance(
        "".join(chat.answer(b"M\xfcller \x1b]0;x\x07".decode("utf-8", "surrogateescape"))), str
    )


def test_the_least_temperature_is_that_of_the_most_probable_token(tiny: Path) -> None:
    answers = {
        "".join(Chat(tiny, ChatOptions(temperature=t), device="cpu").answer("What a goal"))
        for t in (0, 1e-40, 1e-300)
    }
    assert len(answers) == 1


@pytest.mark.parametrize("seed", [-1, 2**31, 10**30])
def test_a_seed_outside_its_range_is_named(seed: int) -> None:
    for options in (LanguageOptions, ChatOptions, DemoOptions, EvaluateOptions, PlayersOptions):
        with pytest.raises(ValueError, match=f"seed is {seed}"):
            options(seed=seed)


def test_a_time_limit_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="leave it out"):
        LanguageOptions(max_seconds=float("inf"))


@pytest.mark.parametrize("stream", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_no_error(stream: str) -> None:
    code = "from touchline.tools.cli import main; import sys; sys.argv[1:] = ['models']; main()"
    ended = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {stream}', sys.executable, code],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr


def test_standard_input_without_end_is_refused(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Endless:
        def isatty(self) -> bool:
            return False

        def read(self, size: int = -1) -> str:
            assert size > 0, "it would be read for ever"
            return "y" * size

    monkeypatch.setattr(sys, "stdin", Endless())
    assert touchline(monkeypatch, "chat", tiny, "--device", "cpu") == 1
    assert "prompt has more than 20,000 characters" in " ".join(capfd.readouterr().err.split())
