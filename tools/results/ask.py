"""`touchline ask`: answer a question about the events of a match."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.pipeline.questions.options import MOST_QUOTES
from touchline.tools import console
from touchline.tools.results.clock import Kickoff, PeriodMin
from touchline.tools.results.wording import Wording, reword

if TYPE_CHECKING:
    from touchline.pipeline.questions.answer import Answer
    from touchline.pipeline.questions.commentary import Commentary, Line
    from touchline.pipeline.questions.query import RefusalError
    from touchline.pipeline.questions.timeline import Timeline

REFUSED = 3


def ask_command(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS",
            help="An events.json, events in another format, or a folder of results.",
            show_default=False,
        ),
    ],
    question: Annotated[
        str,
        typer.Argument(metavar="QUESTION", help="The question, in English.", show_default=False),
    ],
    commentary: Annotated[
        Path | None,
        typer.Option(
            help="Commentary with times to quote from: SRT, WebVTT, or JSON lines with `text` and "
            "`start_s`. Its words never become facts."
        ),
    ] = None,
    words: Annotated[
        Path | None,
        typer.Option(
            help="Your own table of words for the classes (default: the table of the sport that "
            "the classes belong to)."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="A label file. Its classes count as looked for, also where no event has them."
        ),
    ] = None,
    wording: Wording = None,
    kickoff: Kickoff = None,
    period_min: PeriodMin = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Answer a question from the events of a match.

    Exits with 0 after an answer and with 3 if the question is refused.
    """
    from touchline.pipeline.labels.read import read_labels
    from touchline.pipeline.questions.answer import answer
    from touchline.pipeline.questions.commentary import Commentary, read_commentary
    from touchline.pipeline.questions.query import RefusalError
    from touchline.pipeline.questions.read import read_matches, timelines_of
    from touchline.pipeline.questions.vocabulary import read_word_table
    from touchline.tools.results.clock import clocks_of

    matches = read_matches(results)
    if commentary is not None and len(matches) > 1:
        raise ValueError("--commentary is for one match. Name its events.json.")
    classes = sorted({example.label for example in read_labels(labels)}) if labels else []
    clocks = clocks_of(matches, kickoff or [], period_min=period_min)
    timelines = timelines_of(matches, clocks, classes)
    table = None if words is None else read_word_table(words)
    said = None if commentary is None else Commentary(read_commentary(commentary))
    try:
        quotes = said.said_about(question) if said else None
        found = answer(question, timelines, table) if quotes is None else None
    except RefusalError as refusal:
        _show_refusal(refusal, as_json=json_)
        raise typer.Exit(REFUSED) from None
    if found is not None and said is not None:
        quotes = _quotes(found, said)
    if found is not None and wording is not None:
        found = replace(found, sentences=reword(found.sentences, wording))
    _show(found, quotes or [], timelines, as_json=json_)


def _quotes(found: Answer, said: Commentary) -> list[Line]:
    """What was said near the events of an answer, each line once."""
    from touchline.pipeline.questions.vocabulary import split_words

    lines = (said.about(event, split_words(event.label)) for _, event in found.events)
    return list(dict.fromkeys(line for line in lines if line))[:MOST_QUOTES]


def _show(
    found: Answer | None, quotes: list[Line], timelines: list[Timeline], *, as_json: bool
) -> None:
    if as_json:
        by_name = {timeline.name: timeline for timeline in timelines}
        document = {
            "read_as": found.read_as if found else None,
            "answer": list(found.sentences) if found else [],
            "count": found.count if found else None,
            "counts": dict(found.counts) if found else {},
            "events": [
                {
                    "match": match,
                    "label": event.label,
                    "peak_s": event.peak_s,
                    "score": event.score,
                    "when": by_name[match].when(event),
                }
                for match, event in (found.events if found else ())
            ],
            "quotes": [{"start_s": line.start_s, "text": line.text} for line in quotes],
        }
        console.print_json(document)
        return
    if found is not None:
        console.say(f"Read as: {found.read_as}")
        for sentence in found.sentences:
            console.say(sentence)
    for line in quotes:
        console.say(line.quoted())


def _show_refusal(refusal: RefusalError, *, as_json: bool) -> None:
    if as_json:
        console.print_json(
            {
                "refused": str(refusal),
                "unknown_words": list(refusal.words),
                "nearest": refusal.nearest,
            }
        )
        return
    console.say(str(refusal))
    if refusal.nearest:
        console.say(f"A question that can be answered: {refusal.nearest}")
