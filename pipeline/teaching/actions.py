"""What a project knows, and the actions that change it: pure functions of state and action.

The journal holds the actions. The state follows from them, so it is the same after every restart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, TypeVar

from touchline.models.classes import BACKGROUND
from touchline.models.json_values import from_json

NUM_COLOURS = 12
MAX_CLASSES = 60
MAX_NAME = 200
MAX_NOTE = 2000

Action = Mapping[str, Any]
T = TypeVar("T")

Proposed = TypedDict("Proposed", {"class": str, "start": float, "end": float}, total=False)

ActionFields = TypedDict(
    "ActionFields",
    {
        "do": str, "class": str, "into": str, "name": str, "colour": int,
        "match": str, "mark": str, "rejection": str,
        "start": float, "end": float, "peak": float, "score": float | None,
        "note": str, "source": str, "proposed": Proposed,
    },
    total=False,
)  # fmt: skip
"""The fields that actions have. `proposed` is what was proposed, if the person corrected it."""

# Control characters, what turns the direction of writing, and halves of characters.
UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class LabelClass:
    """A class of events, with its place among the twelve colours of the page."""

    id: str
    name: str
    colour: int


@dataclass(frozen=True)
class Mark:
    """A confirmed event.

    Attributes:
        id: Its name in the project.
        match: The match it lies in.
        label: The id of its class.
        start_s: Start in seconds.
        end_s: End in seconds; equal to the start for a spot.
        note: What the person wrote.
        source: hand, proposal or labels.
        score: The score of the proposal when it was accepted; None for other sources.
    """

    id: str
    match: str
    label: str
    start_s: float
    end_s: float
    note: str = ""
    source: str = "hand"
    score: float | None = None


@dataclass(frozen=True)
class Rejection:
    """A proposal that the person said no to; the fields are those of `Mark`."""

    id: str
    match: str
    label: str
    start_s: float
    end_s: float
    score: float | None = None


@dataclass(frozen=True)
class State:
    """Everything that the person has said so far."""

    classes: tuple[LabelClass, ...] = ()
    marks: Mapping[str, Mark] = field(default_factory=dict)
    rejected: Mapping[str, Rejection] = field(default_factory=dict)


class ActionError(ValueError):
    """An action that cannot be done; the message says why."""


@dataclass(frozen=True)
class _Step:
    """What an action changed: the classes, marks and rejections before and after it.

    A mark or rejection that is not there is None.
    """

    classes: tuple[tuple[LabelClass, ...], tuple[LabelClass, ...]]
    marks: Mapping[str, tuple[Mark | None, Mark | None]]
    rejected: Mapping[str, tuple[Rejection | None, Rejection | None]]


class History:
    """The state after a sequence of actions, with undo and redo without end."""

    def __init__(self, actions: Iterable[Action] = ()) -> None:
        self.state = State()
        self.revision = 0
        self._done: list[_Step] = []
        self._undone: list[_Step] = []
        for action in actions:
            self.do(action)

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether something was undone and nothing was done since."""
        return bool(self._undone)

    def after(self, action: Action, *, matches: Iterable[str] = ()) -> tuple[State, str]:
        """Return the state that an action leads to, and the id of what it makes; change nothing.

        Args:
            action: What the person did.
            matches: The matches of the project; empty: any.

        Raises:
            ActionError: It cannot be done.
        """
        try:
            from_json(dict(action), ActionFields)
        except ValueError as error:
            raise ActionError(str(error)) from None
        kind = action.get("do")
        if kind in ("undo", "redo"):
            steps = self._done if kind == "undo" else self._undone
            if not steps:
                raise ActionError(f"there is nothing to {kind}")
            return _taken(self.state, steps[-1], 0 if kind == "undo" else 1), ""
        change = CHANGES.get(kind or "")
        if change is None:
            raise ActionError(f"{kind!r} is not an action; use one of {', '.join(CHANGES)}")
        known = set(matches)
        if known and "match" in action and action["match"] not in known:
            raise ActionError(f"there is no match {action['match']!r} in this project")
        made = f"{str(kind)[0]}{self.revision + 1}"
        return change(self.state, action, made), made

    def do(self, action: Action) -> str:
        """Take an action into the history. Return the id of what it made.

        Raises:
            ActionError: It cannot be done; nothing has changed.
        """
        state, made = self.after(action)
        if action["do"] == "undo":
            self._undone.append(self._done.pop())
        elif action["do"] == "redo":
            self._done.append(self._undone.pop())
        else:
            self._done.append(_step(self.state, state))
            self._undone.clear()
        self.state = state
        self.revision += 1
        return made


def _step(old: State, new: State) -> _Step:
    return _Step(
        (old.classes, new.classes),
        _changes(old.marks, new.marks),
        _changes(old.rejected, new.rejected),
    )


def _changes(old: Mapping[str, T], new: Mapping[str, T]) -> dict[str, tuple[T | None, T | None]]:
    keys = {**old, **new}
    return {k: (old.get(k), new.get(k)) for k in keys if old.get(k) is not new.get(k)}


def _taken(state: State, step: _Step, way: int) -> State:
    """Undo (way 0) or redo (way 1) a step."""
    return State(
        step.classes[way],
        _with(state.marks, step.marks, way),
        _with(state.rejected, step.rejected, way),
    )


def _with(
    now: Mapping[str, T], changes: Mapping[str, tuple[T | None, ...]], way: int
) -> dict[str, T]:
    new = dict(now)
    for key, values in changes.items():
        value = values[way]
        if value is None:
            del new[key]
        else:
            new[key] = value
    return new


def _add_class(state: State, action: Action, made: str) -> State:
    name = _class_name(state, action)
    if len(state.classes) >= MAX_CLASSES:
        raise ActionError(f"a project has at most {MAX_CLASSES} classes")
    colour = _colour(action, default=len(state.classes) % NUM_COLOURS)
    return replace(state, classes=(*state.classes, LabelClass(made, name, colour)))


def _edit_class(state: State, action: Action, made: str) -> State:
    old = _class(state, action, "class")
    name = _class_name(state, action, old) if "name" in action else old.name
    new = replace(old, name=name, colour=_colour(action, default=old.colour))
    return replace(state, classes=tuple(new if c is old else c for c in state.classes))


def _merge_classes(state: State, action: Action, made: str) -> State:
    old, into = _class(state, action, "class"), _class(state, action, "into")
    if old is into:
        raise ActionError("a class cannot be merged into itself")
    return replace(
        state,
        classes=tuple(c for c in state.classes if c is not old),
        marks={k: _moved(m, old, into) for k, m in state.marks.items()},
        rejected={k: _moved(r, old, into) for k, r in state.rejected.items()},
    )


def _moved(one: Any, old: LabelClass, into: LabelClass) -> Any:
    return replace(one, label=into.id) if one.label == old.id else one


def _remove_class(state: State, action: Action, made: str) -> State:
    old = _class(state, action, "class")
    return replace(
        state,
        classes=tuple(c for c in state.classes if c is not old),
        marks={k: m for k, m in state.marks.items() if m.label != old.id},
        rejected={k: r for k, r in state.rejected.items() if r.label != old.id},
    )


def _mark(state: State, action: Action, made: str) -> State:
    label = _class(state, action, "class").id
    start_s, end_s = _times(action)
    source = action.get("source", "hand")
    if source not in ("hand", "labels"):
        raise ActionError(f"a mark's source is hand or labels, not {source!r}")
    mark = Mark(made, _match(action), label, start_s, end_s, _note(action), source)
    return replace(state, marks={**state.marks, made: mark})


def _edit_mark(state: State, action: Action, made: str) -> State:
    old = _known_mark(state, action)
    label = _class(state, action, "class").id if "class" in action else old.label
    start_s, end_s = _times({"start": old.start_s, "end": old.end_s} | dict(action))
    note = _note(action) if "note" in action else old.note
    new = replace(old, label=label, start_s=start_s, end_s=end_s, note=note)
    return replace(state, marks={**state.marks, old.id: new})


def _remove_mark(state: State, action: Action, made: str) -> State:
    old = _known_mark(state, action)
    return replace(state, marks={k: m for k, m in state.marks.items() if k != old.id})


def _accept(state: State, action: Action, made: str) -> State:
    label = _class(state, action, "class").id
    start_s, end_s = _times(action)
    match, score = _match(action), _score(action)
    mark = Mark(made, match, label, start_s, end_s, _note(action), "proposal", score)
    return replace(state, marks={**state.marks, made: mark})


def _reject(state: State, action: Action, made: str) -> State:
    label = _class(state, action, "class").id
    start_s, end_s = _times(action)
    no = Rejection(made, _match(action), label, start_s, end_s, _score(action))
    return replace(state, rejected={**state.rejected, made: no})


def _keep_after_all(state: State, action: Action, made: str) -> State:
    if action.get("rejection") not in state.rejected:
        raise ActionError("this rejection does not exist any more")
    left = {k: r for k, r in state.rejected.items() if k != action["rejection"]}
    return replace(state, rejected=left)


CHANGES: Mapping[str, Callable[[State, Action, str], State]] = {
    "add_class": _add_class,
    "edit_class": _edit_class,
    "merge_classes": _merge_classes,
    "remove_class": _remove_class,
    "mark": _mark,
    "edit_mark": _edit_mark,
    "remove_mark": _remove_mark,
    "accept": _accept,
    "reject": _reject,
    "remove_rejection": _keep_after_all,
}
"""Every action but undo and redo: (state, action, id of what it makes) -> state."""


def _class(state: State, action: Action, key: str) -> LabelClass:
    for one in state.classes:
        if one.id == action.get(key):
            return one
    raise ActionError("this class does not exist any more")


def clean_name(name: str) -> str:
    """Return a class name as a project keeps it: on one line, without control characters."""
    return " ".join(UNWRITABLE.sub(" ", name).split())


def _class_name(state: State, action: Action, own: LabelClass | None = None) -> str:
    name = clean_name(action.get("name", ""))
    if not name:
        raise ActionError("a class needs a name")
    if len(name) > MAX_NAME:
        raise ActionError(f"a class name has at most {MAX_NAME} characters")
    if name == BACKGROUND:
        raise ActionError(f"{BACKGROUND!r} is what is no event. Take another name")
    if any(c.name == name and c is not own for c in state.classes):
        raise ActionError(f"there is a class {name!r} already")
    return name


def _colour(action: Action, *, default: int) -> int:
    colour: int = action.get("colour", default)
    if not 0 <= colour < NUM_COLOURS:
        raise ActionError(f"a colour is a whole number from 0 to {NUM_COLOURS - 1}")
    return colour


def _known_mark(state: State, action: Action) -> Mark:
    mark = state.marks.get(action.get("mark", ""))
    if mark is None:
        raise ActionError("this mark does not exist any more")
    return mark


def _match(action: Action) -> str:
    match: str | None = action.get("match")
    if match is None:
        raise ActionError("a mark needs its match")
    return match


def _times(action: Action) -> tuple[float, float]:
    start_s, end_s = _number(action, "start"), _number(action, "end")
    if not 0 <= start_s <= end_s:
        raise ActionError(f"a mark goes from 0 s or later to its end; this is {start_s}-{end_s} s")
    return start_s, end_s


def _score(action: Action) -> float | None:
    if action.get("score") is None:
        return None
    score = _number(action, "score")
    if not 0 <= score <= 1:
        raise ActionError(f"a score is from 0 to 1; this is {score}")
    return score


def _number(action: Action, key: str) -> float:
    number = float(action.get(key, math.nan))
    if not math.isfinite(number):
        raise ActionError(f"{key} must be a number")
    return number


def _note(action: Action) -> str:
    note: str = action.get("note", "")
    if len(note) > MAX_NOTE:
        raise ActionError(f"a note is a text of at most {MAX_NOTE} characters")
    return note
