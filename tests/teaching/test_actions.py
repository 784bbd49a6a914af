"""What each action does to a project's state, what is refused, and undo and redo."""

import json
import sys
import tracemalloc

import pytest

from touchline.pipeline.teaching.actions import (
    CHANGES,
    MAX_CLASSES,
    MAX_NAME,
    MAX_NOTE,
    ActionError,
    History,
    Mark,
    Rejection,
    State,
)


def add_class(name: str, **more: object) -> dict[str, object]:
    return {"do": "add_class", "name": name, **more}


def mark(label: str, start: float, end: float, **more: object) -> dict[str, object]:
    return {"do": "mark", "match": "m1", "class": label, "start": start, "end": end, **more}


@pytest.fixture
def history() -> History:
    """Two classes a1 and a2, mark m3 of the first, a rejection r4 of the second."""
    no = {"do": "reject", "match": "m1", "class": "a2", "start": 5, "end": 6, "score": 0.3}
    return History([add_class("dunk"), add_class("block"), mark("a1", 1, 2.5), no])


def test_a_class_has_a_name_and_a_colour(history):
    assert [(c.id, c.name, c.colour) for c in history.state.classes] == [
        ("a1", "dunk", 0),
        ("a2", "block", 1),
    ]
    assert history.do(add_class("  free \n kick ", colour=11)) == "a5"
    assert (history.state.classes[2].name, history.state.classes[2].colour) == ("free kick", 11)


def test_the_colour_that_nobody_chose_goes_round():
    history = History(add_class(f"class {k}") for k in range(14))
    assert [c.colour for c in history.state.classes][11:] == [11, 0, 1]


def test_a_class_is_renamed_and_coloured_at_its_place(history):
    history.do({"do": "edit_class", "class": "a1", "name": "slam"})
    history.do({"do": "edit_class", "class": "a1", "colour": 7})
    history.do({"do": "edit_class", "class": "a1", "name": "slam"})  # its own name is free
    assert [(c.id, c.name, c.colour) for c in history.state.classes] == [
        ("a1", "slam", 7),
        ("a2", "block", 1),
    ]


def test_a_merged_class_takes_its_marks_and_rejections_along(history):
    history.do({"do": "merge_classes", "class": "a2", "into": "a1"})
    assert [c.id for c in history.state.classes] == ["a1"]
    assert {k: m.label for k, m in history.state.marks.items()} == {"m3": "a1"}
    assert {k: r.label for k, r in history.state.rejected.items()} == {"r4": "a1"}


def test_a_removed_class_takes_its_marks_and_rejections_along(history):
    history.do({"do": "remove_class", "class": "a2"})
    assert (len(history.state.marks), len(history.state.rejected)) == (1, 0)
    history.do({"do": "remove_class", "class": "a1"})
    assert history.state == State()


def test_a_mark_keeps_what_was_said(history):
    made = history.do(mark("a2", 3, 3, note="  late\nfoul ", source="labels"))
    assert history.state.marks[made] == Mark("m5", "m1", "a2", 3.0, 3.0, "  late\nfoul ", "labels")


def test_an_edit_changes_only_what_it_names(history):
    history.do({"do": "edit_mark", "mark": "m3", "start": 0.5})
    assert history.state.marks["m3"] == Mark("m3", "m1", "a1", 0.5, 2.5)
    history.do({"do": "edit_mark", "mark": "m3", "class": "a2", "end": 4, "note": "why"})
    assert history.state.marks["m3"] == Mark("m3", "m1", "a2", 0.5, 4.0, "why")


def test_a_mark_is_removed(history):
    history.do({"do": "remove_mark", "mark": "m3"})
    assert history.state.marks == {}


def test_an_accepted_proposal_is_a_mark_with_its_score(history):
    proposed = {"class": "a1", "start": 7, "end": 9}
    action = mark("a2", 7, 8, score=0.83, proposed=proposed) | {"do": "accept"}
    made = history.do(action)
    assert history.state.marks[made] == Mark("a5", "m1", "a2", 7.0, 8.0, "", "proposal", 0.83)


def test_a_rejection_can_be_taken_back(history):
    assert history.state.rejected["r4"] == Rejection("r4", "m1", "a2", 5.0, 6.0, 0.3)
    history.do({"do": "remove_rejection", "rejection": "r4"})
    assert history.state.rejected == {}


REFUSED = {
    "no action": ({}, "is not an action"),
    "unknown": ({"do": "format_disk"}, "is not an action"),
    "no text": ({"do": ["undo"]}, r"\$\.do: a list instead of a text"),
    "no name": (add_class(" \n\t"), "needs a name"),
    "name no text": (add_class(7), r"\$\.name: a whole number instead of a text"),
    "same name": (add_class(" dunk "), "already"),
    "background": (add_class("background"), "no event"),
    "long name": (add_class("x" * (MAX_NAME + 1)), "at most 200"),
    "only control characters": (add_class("\x1b\x00\ud800"), "needs a name"),
    "colour": (add_class("pass", colour=12), "from 0 to 11"),
    "colour no number": (
        add_class("pass", colour="red"),
        r"\$\.colour: a text instead of a whole number",
    ),
    "colour a truth": (
        add_class("pass", colour=True),
        r"\$\.colour: true or false instead of a whole",
    ),
    "rename to another": ({"do": "edit_class", "class": "a1", "name": "block"}, "already"),
    "rename no class": ({"do": "edit_class", "class": "a9", "name": "x"}, "does not exist"),
    "merge into itself": ({"do": "merge_classes", "class": "a1", "into": "a1"}, "itself"),
    "merge into nothing": ({"do": "merge_classes", "class": "a1"}, "does not exist"),
    "remove no class": ({"do": "remove_class", "class": ["a1"]}, r"\$\.class: a list instead of"),
    "mark no class": (mark("a9", 1, 2), "does not exist"),
    "backwards": (mark("a1", 2, 1), "to its end"),
    "before the start": (mark("a1", -0.1, 1), "0 s or later"),
    "NaN": (mark("a1", float("nan"), 1), "start must be a number"),
    "infinite": (mark("a1", 0, float("inf")), "end must be a number"),
    "huge": (mark("a1", 0, 10**400), r"\$\.end: Number out of range"),
    "a text": (mark("a1", "0", 1), r"\$\.start: a text instead of a number"),
    "a truth": (mark("a1", True, 1), r"\$\.start: true or false instead of a number"),
    "no time": ({"do": "mark", "match": "m1", "class": "a1"}, "start must be a number"),
    "no match": ({"do": "mark", "class": "a1", "start": 1, "end": 1}, "needs its match"),
    "match a list": (mark("a1", 1, 1, match=["m1"]), r"\$\.match: a list instead of a text"),
    "long note": (mark("a1", 1, 1, note="x" * (MAX_NOTE + 1)), "at most 2000"),
    "note no text": (mark("a1", 1, 1, note=7), r"\$\.note: a whole number instead of a text"),
    "source": (mark("a1", 1, 1, source="proposal"), "hand or labels"),
    "edit no mark": ({"do": "edit_mark", "mark": "m9", "start": 1}, "does not exist"),
    "edit a list": ({"do": "edit_mark", "mark": ["m3"]}, r"\$\.mark: a list instead of a text"),
    "edit backwards": ({"do": "edit_mark", "mark": "m3", "start": 3}, "to its end"),
    "remove no mark": ({"do": "remove_mark"}, "does not exist"),
    "score": (mark("a1", 1, 1, score=1.01) | {"do": "accept"}, "from 0 to 1"),
    "score no number": (
        mark("a1", 1, 1, score="x") | {"do": "reject"},
        r"\$\.score: a text instead of a number",
    ),
    "no rejection": ({"do": "remove_rejection", "rejection": "m3"}, "does not exist"),
    "rejection a list": (
        {"do": "remove_rejection", "rejection": []},
        r"\$\.rejection: a list inst",
    ),
    "nested": (mark("a1", 1, 1, more={"x": 1}), r"unknown field `\$\.more`"),
    "nested proposal": (mark("a1", 1, 1, proposed={"x": [1]}), r"unknown field `\$\.proposed\.x`"),
    "proposal a list": (
        mark("a1", 1, 1, proposed=[1]),
        r"\$\.proposed: a list instead of an object",
    ),
    "nothing to redo": ({"do": "redo"}, "nothing to redo"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_changes_nothing(history, case):
    action, says = REFUSED[case]
    before = (history.state, history.revision, history.can_undo, history.can_redo)
    for attempt in (history.do, lambda a: history.after(a, matches=["m1", "m2"])):
        with pytest.raises(ActionError, match=says):
            attempt(action)
    assert (history.state, history.revision, history.can_undo, history.can_redo) == before


def test_a_match_must_be_one_of_the_project(history):
    with pytest.raises(ActionError, match="no match 'm1'"):
        history.after(mark("a1", 1, 2), matches=["m2"])
    assert history.after(mark("a1", 1, 2), matches=["m1"])[1] == "m5"


def test_there_is_an_end_to_classes():
    history = History(add_class(f"class {k}") for k in range(MAX_CLASSES))
    with pytest.raises(ActionError, match="at most 60"):
        history.do(add_class("one more"))


def test_control_characters_do_not_get_into_a_name():
    history = History([add_class("\x1b]0;x\x07du\x00nk\ud800 \u202ecod")])
    assert history.state.classes[0].name == "]0;x du nk cod"


def test_undo_goes_back_to_nothing_and_redo_to_everything(history):
    states = [history.state]
    while history.can_undo:
        history.do({"do": "undo"})
        states.append(history.state)
    assert len(states) == 5
    assert history.state == State()
    with pytest.raises(ActionError, match="nothing to undo"):
        history.do({"do": "undo"})
    for expected in reversed(states[:-1]):
        history.do({"do": "redo"})
        assert history.state == expected
    assert not history.can_redo


def test_after_an_undo_another_action_ends_redo_and_ids_are_never_given_twice(history):
    history.do({"do": "undo"})
    made = history.do(mark("a1", 9, 9))
    assert made == "m6"
    assert not history.can_redo
    history.do({"do": "undo"})
    assert history.do(mark("a1", 9, 9)) == "m8"
    assert sorted(history.state.marks) == ["m3", "m8"]


def test_every_action_is_undone(history):
    done = {
        "add_class": add_class("pass"),
        "edit_class": {"do": "edit_class", "class": "a1", "name": "slam"},
        "merge_classes": {"do": "merge_classes", "class": "a2", "into": "a1"},
        "remove_class": {"do": "remove_class", "class": "a1"},
        "mark": mark("a1", 3, 4),
        "edit_mark": {"do": "edit_mark", "mark": "m3", "note": "x"},
        "remove_mark": {"do": "remove_mark", "mark": "m3"},
        "accept": mark("a1", 3, 4) | {"do": "accept"},
        "reject": mark("a1", 3, 4) | {"do": "reject"},
        "remove_rejection": {"do": "remove_rejection", "rejection": "r4"},
    }
    assert done.keys() == CHANGES.keys()
    before = history.state
    for action in done.values():
        history.do(action)
        assert history.state != before
        history.do({"do": "undo"})
        assert history.state == before


def test_a_state_follows_from_the_actions_alone(history):
    actions = [add_class("dunk"), mark("a1", 1, 2), {"do": "undo"}, {"do": "redo"}]
    assert History(actions).state == History(json.loads(json.dumps(actions))).state


def test_memory_does_not_grow_with_the_square_of_the_actions():
    actions = [add_class("pass"), *(mark("a1", k, k) for k in range(1500))]
    tracemalloc.start()
    history = History(actions)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1500 * 4000
    for _ in range(1499):
        history.do({"do": "undo"})
    assert list(history.state.marks) == ["m2"]
    assert sys.getsizeof(history.state.marks) < 10_000
