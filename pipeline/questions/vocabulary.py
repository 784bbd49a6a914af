"""The words of a question: names of classes, teams and players, numbers and times."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from touchline.models.errors import LabelsError
from touchline.models.spelling import plural
from touchline.pipeline.questions.timeline import Timeline
from touchline.pipeline.timecode import parse_time

SPORTS = ("football", "basketball")

_TOKEN = re.compile(
    r'"[^"]*"|\d+(?::\d\d){1,2}(?:\.\d+)?|\d+(?:st|nd|rd|th)\b|\d+(?:\.\d+)?%?|'
    r"'s\b|[^\W\d_]+|[^\s_]"
)
_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
_ORDINALS = (
    *("zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"),
    *("ninth", "tenth", "eleventh", "twelfth"),
)


@dataclass(frozen=True)
class Token:
    """A word or name of the question.

    Attributes:
        kind: "word", "number", "ordinal", "time", "class", "verb", "passive", "team", "player" or
            "match".
        text: The words of the question.
        value: What is meant, for numbers and times.
        names: What is meant, for names: classes, or one team, player or match.
    """

    kind: str
    text: str
    value: float = 0.0
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class WordTable:
    """Words for the events of a sport.

    Attributes:
        rows: Classes, nouns and verbs that mean them.
        score: Classes whose events each count one in the score.
    """

    rows: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = ()
    score: tuple[str, ...] = ()


def read_word_table(path: str | os.PathLike[str]) -> WordTable:
    """Read a table of words: a line of `classes | nouns | verbs` each, names separated by commas.

    `be` before a verb marks a passive one. `score: CLASSES` names what counts one in the score.

    Raises:
        LabelsError: The file cannot be read, or a line has another form.
    """
    path = Path(path)
    try:
        return _parsed(path.read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise LabelsError(path, f"cannot be read as text ({error})") from None


def word_table_for(classes: Iterable[str]) -> WordTable:
    """Return the table of the sport that has most of these classes; an empty one for none."""
    known = {_key(name) for name in classes}
    best, most = WordTable(), 0
    for sport in SPORTS:
        path = files("touchline.pipeline.questions") / "words" / f"{sport}.txt"
        table = _parsed(path.read_text(encoding="utf-8"), Path(str(path)))
        shared = len(known & {_key(name) for names, _, _ in table.rows for name in names})
        if shared > most:
            best, most = table, shared
    return best


def _parsed(text: str, path: Path) -> WordTable:
    rows = []
    score: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("score:"):
            score = _names(line.removeprefix("score:"))
            continue
        parts = line.split("|")
        if len(parts) != 3 or not _names(parts[0]):
            raise LabelsError(path, f"line {number} must be: classes | nouns | verbs")
        rows.append((_names(parts[0]), _names(parts[1]), _names(parts[2])))
    return WordTable(tuple(rows), score)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@dataclass(frozen=True)
class Vocabulary:
    """What each phrase means: a sequence of words -> tokens.

    Attributes:
        phrases: The words of a phrase -> every meaning.
        classes: The classes that the model finds.
        score: Classes whose events each count one in the score.
    """

    phrases: dict[tuple[str, ...], list[Token]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    score: tuple[str, ...] = ()

    def add(self, phrase: str, kind: str, names: Sequence[str]) -> None:
        """Let a phrase mean something. A phrase with the same meaning twice has it once.

        Args:
            phrase: The words.
            kind: What kind of token it becomes.
            names: What is meant.
        """
        words = tuple(split_words(phrase))
        token = Token(kind, phrase, names=tuple(sorted(names)))
        meanings = self.phrases.setdefault(words, []) if words else []
        if not any((t.kind, t.names) == (kind, token.names) for t in meanings):
            meanings.append(token)

    def tokens(self, question: str) -> list[Token]:
        """Return the tokens of a question. The longest known phrase wins.

        A phrase that means several things becomes a word, so that nothing is guessed.
        """
        words = split_words(question.rstrip(" \t\r\n?!."))
        longest = max(map(len, self.phrases), default=0)
        found: list[Token] = []
        while words:
            for length in range(min(longest, len(words)), 0, -1):
                meanings = self.phrases.get(tuple(words[:length]), [])
                if len(meanings) == 1:
                    text = " ".join(words[:length])
                    found.append(Token(meanings[0].kind, text, names=meanings[0].names))
                    words = words[length:]
                    break
            else:
                found.append(self._single(words.pop(0)))
        return found

    def _single(self, word: str) -> Token:
        if word.startswith('"'):
            meanings = self.phrases.get(tuple(split_words(word[1:-1])), [])
            named = [token for token in meanings if token.kind not in ("verb", "passive")]
            if len(named) == 1:
                return Token(named[0].kind, word, names=named[0].names)
            return Token("word", word)
        if re.match(r"\d+:", word):
            return _time(word)
        if word in _ORDINALS[1:]:
            return Token("ordinal", word, _ORDINALS.index(word))
        if re.fullmatch(r"\d+(st|nd|rd|th)", word):
            return Token("ordinal", word, int(word[:-2]))
        if word in _SMALL:
            return Token("number", word, _SMALL.index(word))
        if re.match(r"\d", word):
            return Token("number", word, float(word.rstrip("%")) / (100 if "%" in word else 1))
        return Token("word", word)


def vocabulary_of(timelines: Sequence[Timeline], table: WordTable | None = None) -> Vocabulary:
    """Return what the words of a question may mean for these matches.

    Args:
        timelines: The matches.
        table: Words for the classes. None: those of the sport that the classes belong to.
    """
    classes = sorted({name for timeline in timelines for name in timeline.classes})
    table = word_table_for(classes) if table is None else table
    by_key = {_key(name): name for name in classes}
    score = tuple(by_key[_key(name)] for name in table.score if _key(name) in by_key)
    vocabulary = Vocabulary(classes=tuple(classes), score=score)
    for name in classes:
        for form in (name, plural(name)):
            vocabulary.add(form, "class", [name])
    for labels, nouns, verbs in table.rows:
        if meant := [by_key[_key(name)] for name in labels if _key(name) in by_key]:
            for noun in nouns:
                for form in (noun, plural(noun)):
                    # The name of a class means that class alone.
                    if _key(noun) not in by_key:
                        vocabulary.add(form, "class", meant)
            for verb in verbs:
                passive = verb.startswith("be ")
                vocabulary.add(verb.removeprefix("be "), "passive" if passive else "verb", meant)
    for timeline in timelines:
        for kind in ("team", "player"):
            for name in timeline.values(kind):
                vocabulary.add(name, kind, [name])
        vocabulary.add(timeline.name, "match", [timeline.name])
    _add_last_names(vocabulary, {p for timeline in timelines for p in timeline.values("player")})
    return vocabulary


def _add_last_names(vocabulary: Vocabulary, players: set[str]) -> None:
    by_last: dict[str, list[str]] = {}
    for player in players:
        by_last.setdefault(split_words(player)[-1] if split_words(player) else "", []).append(
            player
        )
    for last, named in by_last.items():
        if last and len(named) == 1 and (last,) not in vocabulary.phrases:
            vocabulary.add(last, "player", named)


def split_words(text: str) -> list[str]:
    """Split a text into lower-case words, numbers, times, quoted names and signs."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = text.replace("’", "'").replace("“", '"').replace("”", '"')
    return _TOKEN.findall(re.sub(r"(?<=\w)-(?=\w)", " ", text))


def _time(word: str) -> Token:
    try:
        return Token("time", word, parse_time(word))
    except ValueError:
        return Token("word", word)


def _key(name: str) -> str:
    return " ".join(split_words(name))
