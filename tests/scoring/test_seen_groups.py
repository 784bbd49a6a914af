"""Which matches a model has seen, whatever their labels are called."""

from dataclasses import replace

import pytest
from calibration_material import two_event_model

from touchline.models.training_record import TrainedGroups, TrainingRecord
from touchline.pipeline.scoring.score_clips import keep_visible
from touchline.pipeline.scoring.seen_groups import trained_groups, unseen_examples
from touchline.pipeline.types import Example


@pytest.fixture(scope="module")
def model():
    return two_event_model()


def examples(*groups):
    return [Example(f"{group}.mp4", "goal", group) for group in groups]


def test_evaluation_leaves_out_groups_that_were_trained_on(model):
    unseen, left_out = unseen_examples(model, examples("A", "B"))
    assert (unseen, left_out) == (examples("B"), ["A"])
    with pytest.raises(ValueError, match="every group"):
        unseen_examples(model, examples("A"))


def test_a_file_that_was_trained_on_is_known_wherever_its_labels_lay(model):
    names = ["clips/m1.mp4", "final", "A/1.mkv"]
    trained = replace(model, record=TrainingRecord(groups=TrainedGroups(train=tuple(names))))
    seen = ["data/clips/m1.mp4", "m1.mp4", "clips/m1", "m1", "final", "1.mkv"]
    for name in seen:
        assert trained_groups(trained, [name]) == [name], name
    assert trained_groups(trained, ["B/1.mkv", "other/m1.mp4", "m2.mp4", "a final"]) == []


def test_only_what_can_be_seen_and_is_one_class_calibrates(model):
    goal, card = (Example("a.mp4", label, "B", 1.0, 2.0) for label in ("goal", "card"))
    hidden = replace(card, visible=False)
    assert keep_visible(model, [goal, hidden]) == ([goal], 1)
    assert keep_visible(model, [goal, card]) == ([goal, card], 0)
    several = replace(model, multi_label=True)
    assert keep_visible(several, [goal, hidden]) == ([goal], 1)
    with pytest.raises(ValueError, match="several labels are true of the same clip"):
        keep_visible(several, [goal, card])
