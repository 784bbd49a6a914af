"""What a language model says is used only if it holds the facts, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from touchline.pipeline.questions.wording import keeps_facts, open_model, word_facts
from touchline.tools.cli import app

GOAL = "goal at 1H 38:44 (0:39:44), 9 Keita, United."


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        (GOAL, "At 1H 38:44 we saw a goal by number 9, Keita, of United."),
        (GOAL, "United's goal came at 1H 38:44 (0:39:44): player 9 Keita."),
        ("2 goals.", "There were 2 goals."),
        ("three_pointer at 0:00:52.", "A three pointer happened at 0:00:52."),
        (
            "None found. This model finds card, goal.",
            "None was found: this model finds card, goal.",
        ),
    ],
)
def test_a_sentence_with_the_same_facts_is_used(fact: str, said: str) -> None:
    assert keeps_facts(said, fact)
    assert word_facts([fact], lambda _: f" {said}\nFact: 9 goals.").sentences == (said,)


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        (GOAL, "At 1H 38:45 we saw a goal by number 9, Keita, of United."),  # another time
        (GOAL, "At 1H 38:44 we saw a goal by number 10, Keita, of United."),
        (GOAL, "At 2H 38:44 we saw a goal by number 9, Keita, of United."),
        (GOAL, "At 1H 38:44 we saw a goal by number 9, Novak, of United."),  # another name
        (GOAL, "At 1H 38:44 we saw a goal by number 9, Keita Silva, of United."),
        (GOAL, "At 1H 38:44 we saw a goal by number 9, Keita."),  # the team is lost
        (GOAL, "At 1H 38:44 we saw a penalty goal by number 9, Keita, of United."),
        (GOAL, "At 1H 38:44 we saw no goal by number 9, Keita, of United."),
        (GOAL, "At 1H 38:44 we saw the second goal by number 9, Keita, of United."),
        (GOAL, "At 1H 38:44 we saw a goal, a goal by number 9, Keita, of United."),
        (GOAL, "Before 1H 38:44 we saw a goal by number 9, Keita, of United."),
        ("2 goals.", "There were two goals."),  # not known to be the same: the fact stands
        ("2 goals.", "There were 2 goals and 1 card."),
        ("2 goals.", "There were 2 of them."),
        ("2 goals.", "There were not 2 goals."),
        ("2 goals.", ""),
        ("None found. This model finds card, goal.", "Card, goal: found by this model."),
        # The same numbers and names, in other places.
        ("United 2, City 1, by goals found.", "By goals found: City 2, United 1."),
    ],
)
def test_a_sentence_with_other_facts_is_not(fact: str, said: str) -> None:
    assert not keeps_facts(said, fact)
    worded = word_facts([fact], lambda _: said)
    assert (worded.sentences, worded.num_worded) == ((fact,), 0)


def test_each_fact_is_worded_by_itself() -> None:
    facts = ["2 goals.", "", GOAL]
    prompts = []

    def say(prompt: str) -> str:
        prompts.append(prompt)
        return "There were 2 goals."

    worded = word_facts(facts, say)
    assert (worded.sentences, worded.num_worded) == (("There were 2 goals.", "", GOAL), 1)
    assert len(prompts) == 2  # nothing is asked about an empty line
    assert GOAL not in prompts[0]
    assert GOAL in prompts[1]


def events_csv(folder: Path) -> Path:
    path = folder / "match.csv"
    path.write_text("video,label,start_s,end_s\nmatch.mp4,goal,10,12\nmatch.mp4,goal,50,52\n")
    return path


def test_the_commands_print_what_a_model_may_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from touchline.pipeline.questions import wording

    def opened(path: Path):
        assert path.name == "model"
        return lambda prompt: (
            "There were 2 goals." if "Fact: 2 goals." in prompt else "A goal at 0:00:99."
        )

    monkeypatch.setattr(wording, "open_model", opened)
    match = str(events_csv(tmp_path))
    model = str(tmp_path / "model")
    asked = CliRunner().invoke(app, ["ask", match, "How many goals?", "--wording", model])
    assert asked.exit_code == 0, asked.output
    assert "There were 2 goals." in asked.stdout
    assert "goal at 0:00:11" in asked.stdout
    assert "0:00:99" not in asked.stdout
    assert "1 of 3 sentences worded by model" in asked.stderr
    told = CliRunner().invoke(app, ["commentate", match, "--wording", model])
    assert told.exit_code == 0, told.output
    assert "0:00:99" not in told.stdout
    assert "sentences worded by model" in told.stderr


def test_a_model_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such file or folder\. --wording"):
        open_model(tmp_path / "nowhere")


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"no model")
    # Without transformers it says how to install them, with them that this is no model.
    with pytest.raises(ValueError, match=r"touchline\[wording\]|model\.gguf: not a chat model"):
        open_model(path)


def test_a_small_model_answers_from_its_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra wording is not installed")
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, "goal": 1, "at": 2, "the": 3}
    model = tokenizers.models.WordLevel(words, unk_token="[UNK]")
    plain = tokenizers.Tokenizer(model)
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    config = transformers.GPT2Config(
        vocab_size=4, n_positions=256, n_embd=8, n_layer=1, n_head=1, eos_token_id=None
    )
    folder = tmp_path / "lm"
    transformers.PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]").save_pretrained(
        folder
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    say = open_model(folder)
    assert say("the goal") == say("the goal")
    assert set(say("the goal").split()) <= {"goal", "at", "the", "[UNK]"}
