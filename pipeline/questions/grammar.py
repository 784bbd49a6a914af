"""Read a question as a query, or refuse it: every word must have its place.

A question is an opening ("how many", "list", "when was"), what it is about ("the first goal"), and
conditions ("by United", "in the second half", "before 80:00", "with score above 0.9").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from touchline.models.spelling import nearest
from touchline.pipeline.questions.query import Bound, Kind, Query, RefusalError
from touchline.pipeline.questions.vocabulary import Token, Vocabulary

MAX_CHARACTERS = 500

POLITE = (
    "please",
    "can you",
    "could you",
    "tell me",
    "do you know",
    "can you tell me",
    "could you tell me",
)
COUNT = (
    "how many",
    "count",
    "number of",
    "what number of",
    "what is number of",
    "what was number of",
)
TIMES = ("how many times", "how often")
LIST = ("list", "show", "show me", "give me", "name", "find", "tell me about", "which", "what")
WHEN = ("when", "at what time", "at what point", "at which point", "in which minute", "what time")
BE = ("is", "was", "are", "were", "'s", "has been", "have been")
DO = ("did", "do", "does", "has", "have")
EVENT = ("event", "events", "thing", "things", "moment", "moments")
ANYBODY = ("anybody", "anyone", "somebody", "someone")
MAKE = ("make", "makes", "made", "have", "had", "get", "got", "take", "took", "receive", "received")
TAIL = (
    "that happened",
    "that occurred",
    "were there",
    "was there",
    "are there",
    "is there",
    "happened",
    "happen",
    "to happen",
    "occurred",
    "occur",
    "took place",
    "came",
    "did we see",
    "do we have",
    "did we have",
    "were awarded",
    "was awarded",
    "were shown",
    "was shown",
    "shown",
    "were given",
    "was given",
    "given",
    "were taken",
    "was taken",
    "taken",
    "come",
)
IN_ALL = ("in total", "in all", "altogether")
WHOLE = ("match", "game", "video", "footage", "file")
LAST = ("last", "final", "latest")
ABOVE = ("above", "over", "more than")
BELOW = ("below", "under", "less than")
PERIODS = ("half", "quarter", "period")
MARKS = ("mark", "on the clock", "on the match clock")

# Every word above and in the phrases below has a place somewhere; others are named in the refusal.
KNOWN_WORDS = frozenset(
    word
    for phrases in (
        *(POLITE, COUNT, TIMES, LIST, WHEN, BE, DO, EVENT, ANYBODY, MAKE, TAIL, WHOLE, LAST),
        *(ABOVE, BELOW, MARKS, IN_ALL),
        ("the a an any every all everything anything that this there s who team score final",),
        ("in during of by for from to at with between and or until till up before after since",),
        ("right straight immediately just next half time halftime break interval period quarter",),
        ("opening extra added stoppage injury minute minutes second seconds number confidence",),
        ("least most not came comes come mark full , ' . ? first last it",),
    )
    for phrase in phrases
    for word in phrase.split()
)


def parse(question: str, vocabulary: Vocabulary) -> Query:
    """Read a question.

    Raises:
        ValueError: The question is empty or too long.
        RefusalError: A word is not known, or the question has another form. It names the words, and
            the nearest question that has this form.
    """
    if not question.strip():
        raise ValueError("the question is empty. Ask, for example: how many goals were there?")
    if len(question) > MAX_CHARACTERS:
        raise ValueError(
            f"the question has {len(question)} characters; at most {MAX_CHARACTERS} are read"
        )
    tokens = vocabulary.tokens(question)
    unknown = [t for t in tokens if t.kind == "word" and t.text not in KNOWN_WORDS]
    if unknown:
        words = tuple(dict.fromkeys(token.text for token in unknown))
        named = ", ".join(f'"{word}"' for word in words)
        suggestion = _nearest(tokens, unknown, vocabulary)
        raise RefusalError(f"Not understood: {named}.", words, suggestion)
    parser = _Parser(tokens, vocabulary)
    try:
        return parser.question()
    except _MismatchError:
        rest = " ".join(token.text for token in tokens[parser.furthest :])
        why = f'Not understood from here on: "{rest}".' if rest else "The question breaks off."
        raise RefusalError(
            why, (), _nearest(tokens, tokens[parser.furthest :], vocabulary)
        ) from None


def _nearest(tokens: Sequence[Token], unknown: Sequence[Token], vocabulary: Vocabulary) -> str:
    """A similar question of this grammar: spelling corrected, else without unknown words."""
    spellings = {" ".join(words): words for words in vocabulary.phrases}
    corrected: list[str] = []
    for token in tokens:
        close = nearest(token.text, spellings) if any(token is u for u in unknown) else []
        corrected += [close[0] if close else token.text]
    left = [token.text for token in tokens if not any(token is u for u in unknown)]
    near = vocabulary.tokens(" ".join(corrected))
    classes = [name for token in near if token.kind == "class" for name in token.names]
    plain = Query(Kind.COUNT, tuple(classes[:1]) or vocabulary.classes[:1]).text()
    for words in (corrected, left):
        try:
            return _Parser(vocabulary.tokens(" ".join(words)), vocabulary).question().text()
        except (_MismatchError, RefusalError):
            continue
    return plain


class _MismatchError(Exception):
    """The tokens do not have this form."""


class _Parser:
    """Recursive descent over the tokens. A method takes what it knows or leaves all as it was."""

    def __init__(self, tokens: Sequence[Token], vocabulary: Vocabulary) -> None:
        self.tokens = tokens
        self.vocabulary = vocabulary
        self.at = 0
        self.furthest = 0
        self.counts_minutes = False
        self.has_begin = False

    def question(self) -> Query:
        """The whole question."""
        self.any_of(*POLITE)
        if self.peek("about"):
            self.at = 0
        query = self.conditions(Query(Kind.LIST))
        self.word(",")
        query = self.one_of(
            query, self._score, self._times, self._count, self._people, self._exists, self._list
        )
        if self.at < len(self.tokens):
            raise _MismatchError
        # The first ten minutes of the second half are not those of the match, nor are those after
        # the goal. "In the 12th minute" has both its limits already.
        after = query.after and (query.after.time_s is None or not self.has_begin)
        if self.counts_minutes and (after or query.periods not in ((), (1,))):
            raise RefusalError(
                "Minutes are counted from the start of the match here, not from a period or an "
                "event. Ask with times instead, such as: between 45:00 and 50:00."
            )
        return query

    def one_of(self, query: Query, *forms: Callable[[Query], Query]) -> Query:
        """The first form that the tokens have up to their end."""
        begin = self.at
        for form in forms:
            self.at = begin
            try:
                found = form(query)
            except _MismatchError:
                continue
            if self.at == len(self.tokens):
                return found
        self.at = begin
        raise _MismatchError

    # ── openings ─────────────────────────────────────────────────────────────────────────────

    def _score(self, query: Query) -> Query:
        if self.any_of("what") and not self.any_of(*BE):
            raise _MismatchError
        self.word("the")
        self.any_of("final", "full time")
        self.need("score")
        return self.conditions(replace(query, kind=Kind.SCORE))

    def _times(self, query: Query) -> Query:
        """How many times did Rovers score."""
        if not self.any_of(*TIMES):
            raise _MismatchError
        return self._clause(replace(query, kind=Kind.COUNT))

    def _count(self, query: Query) -> Query:
        if not self.any_of(*COUNT) and not (
            self.any_of("what is the number of", "what was the number of", "the number of")
        ):
            raise _MismatchError
        query = self.noun(replace(query, kind=Kind.COUNT))
        # How many the first goal.
        if query.ordinal or query.limit:
            raise _MismatchError
        return self.rest(query)

    def _people(self, query: Query) -> Query:
        """Who scored first; who was booked; which team took the last penalty."""
        if self.any_of("who"):
            query = replace(query, kind=Kind.PLAYER)
        elif self.any_of("which team", "what team"):
            query = replace(query, kind=Kind.TEAM)
        else:
            raise _MismatchError
        begin = self.at
        if self.any_of("was", "were", "got") and (classes := self.names("passive")):
            return self.conditions(self.order(replace(query, classes=classes)))
        self.at = begin
        if classes := self.names("verb"):
            return self.conditions(self.done_to(query, classes))
        if not self.any_of(*MAKE):
            raise _MismatchError
        return self.conditions(self.noun(query))

    def done_to(self, query: Query, classes: tuple[str, ...]) -> Query:
        """What follows "scored": the first goal; first; nothing."""
        begin = self.at
        try:
            found = self.noun(query)
        except _MismatchError:
            found = query
        if found.classes == classes:
            return found
        self.at = begin
        return self.order(replace(query, classes=classes))

    def _exists(self, query: Query) -> Query:
        query = replace(query, kind=Kind.EXISTS)
        if self.any_of("did anything happen"):
            return self.conditions(query)
        if self.any_of(*(f"{be} there" for be in BE[:4])):
            return self.rest(self.noun(query))
        if self.peek("any"):
            return self.rest(self.noun(query))
        return self._clause(query)

    def _clause(self, query: Query) -> Query:
        """Did SUBJECT score; was SUBJECT booked; did SUBJECT get NOUN."""
        if self.any_of(*BE[:4]):
            query = self.subject(query)
            classes = self.names("passive")
            if not classes:
                raise _MismatchError
            return self.conditions(replace(query, classes=classes))
        if not self.any_of(*DO):
            raise _MismatchError
        query = self.subject(query)
        begin = self.at
        if self.any_of("get", "got", "been") and (classes := self.names("passive")):
            return self.conditions(replace(query, classes=classes))
        self.at = begin
        if classes := self.names("verb"):
            found = self.done_to(query, classes)
        elif self.any_of(*MAKE):
            found = self.noun(query)
        else:
            raise _MismatchError
        # "Did United score the first goal" is not about United's first goal.
        if found.ordinal is not None or found.limit is not None:
            raise _MismatchError
        return self.conditions(found)

    def _list(self, query: Query) -> Query:
        query = replace(query, kind=Kind.LIST)
        if self.any_of(*WHEN):
            begin = self.at
            try:
                return self._clause(query)
            except _MismatchError:
                self.at = begin
            if not self.any_of(*BE, "did"):
                raise _MismatchError
            return self.rest(self.noun(query))
        if not self.any_of(*LIST):
            raise _MismatchError
        self.any_of(*BE)
        if self.any_of("happened", "came", "comes", "happens"):
            return self.conditions(query)
        return self.rest(self.noun(query))

    # ── parts ────────────────────────────────────────────────────────────────────────────────

    def rest(self, query: Query) -> Query:
        """What may follow the noun: "were there", "did United score", and conditions."""
        query = self.conditions(query)
        begin = self.at
        if self.any_of(*TAIL):
            pass
        elif self.any_of("were", "was", "been"):
            if self.kind_matching("verb", query.classes) is None:
                self.at = begin
                self.any_of("were", "was", "are")
        elif self.any_of(*DO):
            query = self.subject(query)
            if self.kind_matching("verb", query.classes) is None and not self.any_of(*MAKE):
                raise _MismatchError
        elif self.any_of("are"):
            pass
        elif self.kind_matching("verb", query.classes) is None:
            self.at = begin
        self.any_of(*IN_ALL)
        return self.conditions(query)

    def noun(self, query: Query) -> Query:
        """The events that are meant: "the first goal", "United's cards", "everything"."""
        every = self.any_of("every", "all the", "all")
        if not every:
            self.any_of("the", "a", "an", "any")
        if token := self.kind("team") or self.kind("player"):
            query = self.owned(query, token)
            self.word("'s")
        query = self.order(query)
        if self.any_of("everything", "anything"):
            return query
        # "Every dunk and block", "goals, cards and penalties".
        joins: tuple[str, ...] = (", and", "and", "or", ",")
        if query.ordinal or query.limit:
            # Every second goal is not the second goal; the first goal and card are two events.
            if every and query.ordinal:
                raise _MismatchError
            joins = ("or",)
        classes = self.class_list(*joins)
        if not self.any_of(*EVENT) and not classes:
            raise _MismatchError
        return replace(query, classes=classes)

    def class_list(self, *joins: str) -> tuple[str, ...]:
        """Names of classes, and what joins them; none if none comes next."""
        classes = self.names("class")
        more = classes
        while more:
            begin = self.at
            if not self.any_of(*joins):
                break
            self.any_of("the", "every")
            more = self.names("class")
            if not more:
                self.at = begin
            classes += more
        return tuple(dict.fromkeys(classes))

    def order(self, query: Query) -> Query:
        """Which of the events: the first, the third, the last, the first three."""
        if self.any_of(*LAST):
            sign, ordinal = -1, -1
        elif self.any_of("opening"):
            sign, ordinal = 1, 1
        elif token := self.kind("ordinal"):
            sign, ordinal = 1, int(token.value)
        else:
            return query
        if ordinal == 0:
            raise _MismatchError
        number = self.kind("number") if ordinal in (1, -1) else None
        if number is None:
            return self.only(query, ordinal=ordinal)
        self.at -= 1
        return self.only(query, limit=sign * self._whole_number())

    def subject(self, query: Query) -> Query:
        """Who did it: a team, a player, a number on a shirt, or anybody."""
        self.word("the")
        if self.any_of(*ANYBODY):
            return query
        if self.any_of("number"):
            return self.only(query, jersey=str(self._whole_number()))
        token = self.kind("team") or self.kind("player")
        if token is None:
            raise _MismatchError
        return self.owned(query, token)

    def owned(self, query: Query, token: Token) -> Query:
        """The query for one team or player."""
        return self.only(query, **{token.kind: token.names[0]})

    def only(self, query: Query, **changes: Any) -> Query:
        """The query with changes of what it does not say yet."""
        said = {name for name in changes if getattr(query, name) and name != "period_word"}
        if said or (changes.keys() & {"ordinal", "limit"} and (query.ordinal or query.limit)):
            raise _MismatchError
        return replace(query, **changes)

    # ── conditions ───────────────────────────────────────────────────────────────────────────

    def conditions(self, query: Query) -> Query:
        """As many conditions as follow."""
        while True:
            begin = self.at
            forms = (self._whole, self._when, self._between, self._limit, self._sure, self._by)
            # In "cards after the first goal by United" the goal is United's, not the cards.
            named = any(bound and bound.is_event for bound in (query.after, query.before))
            for form in forms[:1] if named else forms:
                self.at = begin
                try:
                    query = form(query)
                    break
                except _MismatchError:
                    continue
            else:
                self.at = begin
                return query

    def _whole(self, query: Query) -> Query:
        if not self.any_of("in", "during", "of"):
            raise _MismatchError
        self.any_of("the", "this")
        if token := self.kind("match"):
            return self.only(query, match=token.names[0])
        if not self.any_of(*WHOLE):
            raise _MismatchError
        return query

    def _when(self, query: Query) -> Query:
        """In the second half, in added time, in the 12th minute, before the break."""
        if not self.any_of("in", "during", "of"):
            raise _MismatchError
        self.word("the")
        if self.any_of("added time", "stoppage time", "injury time"):
            return self.only(query, added=True)
        if self.any_of("extra time"):
            return self.only(query, periods=(3, 4), period_word="half")
        if self.any_of("minute"):
            return self._minute(query, self._whole_number())
        for word in PERIODS:
            if self.any_of(word):
                numbers = [self._whole_number()]
                while self.any_of("or"):
                    numbers.append(self._whole_number())
                return self.only(query, periods=tuple(numbers), period_word=word)
        if self.any_of("opening"):
            number = 1
        elif token := self.kind("ordinal"):
            number = int(token.value)
        else:
            raise _MismatchError
        if number == 1 and self.kind("number"):
            self.at -= 1
            minutes = self._whole_number()
            if not self.any_of("minutes"):
                raise _MismatchError
            return self._minutes(query, 0, minutes)
        if self.any_of("minute"):
            return self._minute(query, number)
        for word in PERIODS:
            if self.any_of(word):
                return self.only(query, periods=(number,), period_word=word)
        raise _MismatchError

    def _whole_number(self) -> int:
        token = self.kind("number")
        if token is None or token.value != int(token.value) or not 1 <= token.value <= 1000:
            raise _MismatchError
        return int(token.value)

    def _minute(self, query: Query, number: int) -> Query:
        """The 12th minute is from 11:00 to 12:00."""
        if number < 1:
            raise _MismatchError
        return self._minutes(query, number - 1, number)

    def _minutes(self, query: Query, begin: int, end: int) -> Query:
        self.counts_minutes, self.has_begin = True, bool(begin)
        query = self.only(query, before=Bound(60 * end))
        return self.only(query, after=Bound(60 * begin)) if begin else query

    def _between(self, query: Query) -> Query:
        if self.any_of("between"):
            middle = ["and"]
        elif self.any_of("from"):
            middle = ["to", "until", "till"]
        else:
            raise _MismatchError
        after = self.bound()
        if not self.any_of(*middle):
            raise _MismatchError
        before = self.bound()
        if after.ordinal is not None and not after.classes:
            after = replace(after, classes=before.classes)
        return self.only(query, after=after, before=before, inclusive=True)

    def _limit(self, query: Query) -> Query:
        adjacent = self.any_of("right", "straight", "immediately", "just", "next")
        # A goal right after the penalty is not the next goal, however late.
        if adjacent and query != Query(query.kind, match=query.match):
            raise _MismatchError
        since = self.peek("since")
        if self.any_of("after", "since"):
            changed = self.only(query, after=self.bound(begins=since))
            return self.only(changed, ordinal=1) if adjacent else changed
        before = self.peek("before")
        if self.any_of("before", "until", "till", "up to", "by"):
            changed = self.only(query, before=self.bound(begins=before))
            return self.only(changed, ordinal=-1) if adjacent else changed
        raise _MismatchError

    def bound(self, begins: bool = False) -> Bound:
        """A time (80:00, the 80th minute, 30 seconds), the break, or an event (the first goal)."""
        self.word("the")
        if self.any_of("break", "half time", "halftime", "interval"):
            return Bound(kickoff=2)
        if token := self.kind("time"):
            return self._in_file(token.value)
        begin = self.at
        if self.any_of("minute"):
            if number := self.kind("number"):
                return self._in_file(60 * number.value)
            raise _MismatchError
        if number := self.kind("number") or self.kind("ordinal"):
            # Between the 50th and the 60th minute: the unit stands once.
            if self.any_of("minute", "minutes", "'"):
                # The 12th minute begins at 11:00.
                early = begins and number.kind == "ordinal"
                return self._in_file(60 * (number.value - early))
            if number.kind == "number" and self.any_of("second", "seconds"):
                return self._in_file(number.value)
            if self._unit_follows():
                return Bound(60 * number.value)
        self.at = begin
        query = self.order(Query(Kind.LIST))
        if query.limit is not None:
            raise _MismatchError
        # In "between the first and the second goal" the class stands once.
        classes = self.class_list("or")
        event = self.any_of("event", "events")
        if classes or (query.ordinal is not None and (event or self.peek("and"))):
            return Bound(classes=classes, ordinal=query.ordinal)
        raise _MismatchError

    def _in_file(self, time_s: float) -> Bound:
        in_file = self.any_of("in the file", "in the video", "of the file", "of the video")
        if not in_file:
            self.any_of(*MARKS)
        return Bound(time_s, in_file=in_file)

    def _unit_follows(self) -> bool:
        """Whether "and the 60th minute" follows."""
        begin = self.at
        found = self.any_of("and", "to", "until") and (self.word("the") or True)
        found = found and (self.kind("ordinal") or self.kind("number")) is not None
        found = found and self.any_of("minute", "minutes")
        self.at = begin
        return found

    def _sure(self, query: Query) -> Query:
        """With a score above 0.9."""
        if not self.any_of("with"):
            raise _MismatchError
        self.any_of("a", "the")
        if not self.any_of("score", "confidence", "scores"):
            raise _MismatchError
        self.any_of("of")
        least = self.any_of("at least")
        if least or self.any_of(*ABOVE):
            return self.only(query, above=(self._share(), not least))
        most = self.any_of("at most")
        if most or self.any_of(*BELOW):
            return self.only(query, below=(self._share(), not most))
        raise _MismatchError

    def _share(self) -> float:
        token = self.kind("number")
        if token is None or not 0 <= token.value <= 1:
            raise _MismatchError
        return token.value

    def _by(self, query: Query) -> Query:
        if not self.any_of("by", "of", "for", "from"):
            raise _MismatchError
        return self.subject(query)

    # ── tokens ───────────────────────────────────────────────────────────────────────────────

    def any_of(self, *phrases: str) -> bool:
        """Take the longest of these phrases that comes next."""
        for phrase in sorted(phrases, key=len, reverse=True):
            words = phrase.split()
            coming = self.tokens[self.at : self.at + len(words)]
            if [t.text for t in coming if t.kind in ("word", "ordinal", "verb")] == words:
                self._take(len(words))
                return True
        return False

    def word(self, text: str) -> bool:
        """Take a word if it comes next."""
        return self.any_of(text)

    def need(self, text: str) -> None:
        """Take a word that must come next."""
        if not self.any_of(text):
            raise _MismatchError

    def peek(self, text: str) -> bool:
        """Whether a word comes next."""
        return self.at < len(self.tokens) and self.tokens[self.at].text == text

    def kind(self, kind: str) -> Token | None:
        """Take a token of a kind if it comes next."""
        if self.at < len(self.tokens) and self.tokens[self.at].kind == kind:
            self._take(1)
            return self.tokens[self.at - 1]
        return None

    def names(self, kind: str) -> tuple[str, ...]:
        """Take a token of a kind if it comes next, and return what it means."""
        token = self.kind(kind)
        return token.names if token else ()

    def kind_matching(self, kind: str, names: tuple[str, ...]) -> Token | None:
        """Take a token of a kind if it comes next and means these names."""
        if self.at < len(self.tokens) and self.tokens[self.at].names == names:
            return self.kind(kind)
        return None

    def _take(self, count: int) -> None:
        self.at += count
        self.furthest = max(self.furthest, self.at)
