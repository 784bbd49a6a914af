"""`touchline language train` and `touchline chat`, as a person types them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from command import touchline
from tiny_language import commentary
from typer.testing import CliRunner

from touchline.models.errors import WeightsError
from touchline.pipeline.language.chat import Chat
from touchline.pipeline.language.options import ChatOptions, LanguageOptions
from touchline.pipeline.language.pretrained import load_saved
from touchline.pipeline.language.train import train_language
from touchline.tools.cli import app

TRAIN = ["language", "train"]


def run(*arguments: object, given: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=given)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def trained(
    tiny: Path, matches: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None
) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("trained") / "lm"
    options = ["--weights", tiny, "--freeze", "1", "--context", "64", "--val-share", "0.2"]
    how = ["--epochs", "3", "--lr", "0.01", "--precision", "float32", "--device", "cpu"]
    code, printed, _ = run(*TRAIN, matches, "-o", out, *options, *how)
    assert code == 0
    return out, printed


def test_training_prints_parts_split_and_figures(trained: tuple[Path, str]) -> None:
    _, printed = trained
    for text in ("embeddings", "frozen", "block 1", "trained", "before training", "after pass 1"):
        assert text in printed
    assert "learning from 5 documents" in printed
    assert "measuring on 1 other document " in printed


# Ctrl-C, and what SIGTERM becomes in tools/cli.py.
@pytest.mark.parametrize(
    ("stop", "exit_code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)], ids=str
)
def test_a_run_that_was_interrupted_says_how_to_go_on(
    stop: BaseException,
    exit_code: int,
    tiny: Path,
    matches: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def command(*more: str) -> tuple[int, str, str]:
        how = ["--weights", tiny, "--freeze", "1", "--context", "64", "--epochs", "1"]
        return run(*TRAIN, matches, "-o", tmp_path / "lm", *how, *more)

    def interrupt(*_: object) -> None:
        raise stop

    with monkeypatch.context() as patched:
        patched.setattr("touchline.pipeline.language.train._Training._step", interrupt)
        code, _, said = command()
    assert code == exit_code
    assert "repeat the command with --resume" in said
    assert not (tmp_path / "lm" / "model.safetensors").exists()
    with pytest.raises(ValueError, match="--resume"):
        command()
    code, printed, said = command("--resume")
    assert (code, said) == (0, "")
    assert "after training" in printed
    code, _, said = command("--resume", "--overwrite")
    assert code == 0
    assert "holds no unfinished run, so --resume starts a new one" in " ".join(said.split())


def test_json_prints_the_metrics(tiny: Path, matches: Path, tmp_path: Path) -> None:
    code, printed, _ = run(
        *TRAIN, matches, "-o", tmp_path / "lm", "--weights", tiny, "--lora", 2, "--epochs", 1,
        "--context", 64, "--max-seconds", 1, "--json",
    )  # fmt: skip
    assert code == 0
    assert json.loads(printed)["options"]["lora"] == 2


def test_chat_answers_a_prompt_and_says_that_it_knows_no_facts(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    code, said, notice = run("chat", folder, "--prompt", "Who scored?", "--seed", 3)
    assert code == 0
    assert said.strip()
    assert "knows no facts" in notice
    assert "touchline ask" in notice
    assert run("chat", folder, "--prompt", "Who scored?", "--seed", 3)[1] == said
    assert run("chat", folder, given="Who scored?", *["--seed", 3])[1] == said  # noqa: B026
    assert run("chat", folder, "--prompt", "Who scored?", "--seed", 4)[1] != said


def test_chat_speaks_in_the_voice_of_its_text(tiny: Path, matches: Path, tmp_path: Path) -> None:
    options = LanguageOptions(
        weights=str(tiny), freeze="none", context=64, epochs=10, lr=0.02, precision="float32"
    )
    train_language([matches], tmp_path / "lm", options, device="cpu")
    chat = Chat(tmp_path / "lm", ChatOptions(temperature=0, max_tokens=100), device="cpu")
    said = " ".join("".join(chat.answer(line)) for line in ("What a goal", "And Silva"))
    words = {word for line in commentary(3).splitlines() for word in line.split()}
    spoken = said.split()
    assert len(spoken) > 5
    assert sum(word in words for word in spoken) > len(spoken) / 2


def test_a_conversation_ends_with_the_end_of_input(
    trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = trained
    lines = iter(["What a goal!", "", "And now?"])

    def typed(_: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert touchline(monkeypatch, "chat", folder, "--max-tokens", "10") == 0
    assert len(capsys.readouterr().out.strip().splitlines()) >= 2


def test_control_characters_of_an_answer_do_not_reach_the_terminal(
    trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chat, "answer", lambda self, said: iter(["a\x1b[2J", "b\x07\u202e\n"]))
    _, said, _ = run("chat", trained[0], "--prompt", "x")
    assert said == "a\ufffd[2Jb\ufffd\ufffd\n\n"


def test_what_a_person_types_is_text_even_if_it_looks_like_a_control_token(
    trained: tuple[Path, str],
) -> None:
    chat = Chat(trained[0], ChatOptions(max_tokens=2), device="cpu")
    list(chat.answer("<|end|>"))
    assert chat._said[1 : chat._said.index(chat._encoded("\n")[0])].count(0) == 0


def test_a_long_conversation_goes_on(trained: tuple[Path, str]) -> None:
    chat = Chat(trained[0], ChatOptions(max_tokens=3), device="cpu")
    for _ in range(3):
        "".join(chat.answer("word " * 1000))
        # What the model cannot see any more is forgotten.
        assert len(chat._said) <= chat._remembered + 3 + len(chat._encoded("\n"))


def test_an_answer_that_is_cut_off_stays_in_the_conversation(trained: tuple[Path, str]) -> None:
    chat = Chat(trained[0], ChatOptions(max_tokens=30), device="cpu")
    answer = chat.answer("word")
    next(answer)
    asked = len(chat._encoded("word\n"))
    answer.close()
    assert len(chat._said) > 1 + asked + len(chat._encoded("\n"))


def test_longer_answers_than_the_model_can_make_are_an_error(trained: tuple[Path, str]) -> None:
    with pytest.raises(ValueError, match=r"max_tokens is 512.*sees only 512"):
        run("chat", trained[0], "--prompt", "x", "--max-tokens", 512)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--freeze", "all"], "freeze is 'all'"),
        (["--freeze", "2"], "but the model has 2 blocks"),
        (["--lora", "4", "--freeze", "none"], "Use one of them"),
        (["--scratch", "--lora", "4"], "scratch trains everything"),
        (["--val-share", "0"], r"val_share is 0.0; it must be in"),
        (["--max-seconds", "0"], "max_seconds is 0.0; it must be more than 0. For no limit, leave"),
        (["--epochs", "0"], "epochs is 0; it must be 1 or more"),
        (["--lr", "7"], "lr is 7.0; it must be in"),
        (["--context", "3"], "context is 3; it must be in"),
        (["--context", "513"], "context is 513, but the model sees at most 512"),
    ],
)
def test_options_outside_their_range_are_errors(
    tiny: Path, matches: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    out = tmp_path / "lm"
    with pytest.raises(ValueError, match=message):
        run(*TRAIN, matches, "-o", out, "--weights", tiny, *arguments)
    assert not (out / "model.safetensors").exists()


def test_a_folder_that_is_no_model_says_so(libraries: None, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"it has no config\.json"):
        run("chat", tmp_path, "--prompt", "x")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"it has no model\.safetensors.*--resume"):
        load_saved(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    with pytest.raises(WeightsError, match=r"has no tokenizer\.json. Copy that file"):
        load_saved(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="not a chat model"):
        load_saved(tmp_path)
    with pytest.raises(WeightsError, match=r"no such folder"):
        load_saved(tmp_path / "nothing")


def test_without_the_libraries_the_error_says_what_to_install(
    matches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"pip install 'touchline\[language\]'"):
        run(*TRAIN, matches, "-o", tmp_path / "lm")


def test_an_empty_prompt_is_an_error(trained: tuple[Path, str]) -> None:
    with pytest.raises(ValueError, match="prompt is empty"):
        run("chat", trained[0], given="  \n")
