"""Sixty questions about three matches, with the right answers.

football      a made-up match: two halves, added time, teams, players
rendered_11   the plays of `render_match` with seed 11, 3 of each play and 4 look-alikes
rendered_12   the same with seed 12, with a match clock of periods of 10 minutes

questions.jsonl was written before the grammar. `count`, `times` or `counts` is the right answer;
`refused` marks questions without one. Run this file to print the table of docs/benchmarks.md.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from touchline.pipeline.outputs.read_results import read_results
from touchline.pipeline.questions.answer import answer
from touchline.pipeline.questions.query import RefusalError
from touchline.pipeline.questions.timeline import Timeline, timeline_of

FOLDER = Path(__file__).parent
MATCHES = ("football", "rendered_11", "rendered_12")


def read_timelines() -> dict[str, Timeline]:
    """The three matches, by name."""
    return {name: timeline_of(read_results(FOLDER / name / "events.json")[0]) for name in MATCHES}


def read_questions() -> list[dict[str, Any]]:
    """The questions: kind, results, question, and the right answer."""
    text = (FOLDER / "questions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def verdict(asked: dict[str, Any], timeline: Timeline) -> str:
    """Whether Touchline's answer is right, wrong or refused."""
    try:
        found = answer(asked["question"], [timeline])
    except RefusalError:
        return "right" if asked.get("refused") else "refused"
    answers = {
        "count": found.count,
        "times": [event.peak_s for _, event in found.events],
        "counts": dict(found.counts),
    }
    right = any(answers[name] == asked[name] for name in answers if name in asked)
    return "right" if right else "wrong"


def verdicts() -> Counter[tuple[str, str]]:
    """How many questions of each kind are right, wrong or refused."""
    timelines = read_timelines()
    return Counter((q["kind"], verdict(q, timelines[q["results"]])) for q in read_questions())


if __name__ == "__main__":
    counts = verdicts()
    for kind in ("plain", "paraphrase", "no answer"):
        print(kind, {name: counts[kind, name] for name in ("right", "wrong", "refused")})
