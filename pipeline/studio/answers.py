"""Questions about a match of the project: answered from its marks and its open proposals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.questions.answer import answer
from touchline.pipeline.questions.query import RefusalError
from touchline.pipeline.questions.timeline import timeline_of
from touchline.pipeline.studio.engine import Engine
from touchline.pipeline.teaching.project import Match, Project
from touchline.pipeline.types import Event

FINDER = "This project looks for"
CLOCK_HINT = "Name a time in the file, such as before 40:00."


def answer_about(match: Match, project: Project, engine: Engine, question: str) -> dict[str, Any]:
    """Answer a question about a match, in the fields that the page reads.

    The confirmed events count, and the proposals that reach their threshold and are still open.
    Questions about scores look at unlikely proposals, too.

    Args:
        match: The match.
        project: Its project.
        engine: Knows the proposals.
        question: The question, in English.

    Returns:
        How the question was read and the sentences of the answer, each with the event whose time it
        names; or why it is refused, and a question that can be answered.

    Raises:
        ValueError: The question is empty or too long.
    """
    revision, version = project.revision, engine.learning.version
    names = {one.id: one.name for one in project.state.classes}
    confirmed = [example.event() for example in project.examples_of(match.id)]
    likely: list[Event] = []
    unlikely: list[Event] = []
    for proposal in engine.proposals(match.id):
        event = proposal.event
        if event.label in names:
            event = replace(event, label=names[event.label])
            (likely if proposal.accepted else unlikely).append(event)
    accepted = (*confirmed, *likely)
    result = MatchResult(match.path, candidates=(*accepted, *unlikely), accepted=accepted)
    timeline = replace(
        timeline_of(result, list(names.values())), finder=FINDER, clock_hint=CLOCK_HINT
    )
    of = {
        "revision": revision, "version": version,
        "confirmed": len(confirmed), "open": len(likely),
    }  # fmt: skip
    try:
        found = answer(question, [timeline])
    except RefusalError as refusal:
        words = list(refusal.words)
        return of | {"refused": str(refusal), "words": words, "nearest": refusal.nearest}
    known = set(confirmed)
    sentences = [
        {
            "text": text,
            "event": None
            if event is None
            else {
                "time": event.peak_s, "when": timeline.when(event), "confirmed": event in known,
            },
        }
        for text, event in zip(found.sentences, found.told, strict=True)
    ]  # fmt: skip
    return of | {"readAs": found.read_as, "sentences": sentences}
