"""Found events paired with true ones, each with at most one."""

from touchline.pipeline.evaluation.spotting import pair_events
from touchline.pipeline.types import Event


def play(label, middle_s, score=1.0):
    return Event(label, middle_s - 1, middle_s + 1, middle_s, score)


def test_a_found_event_goes_to_the_nearest_true_one_of_its_class_within_a_second():
    truth = (play("dunk", 10), play("dunk", 12), play("block", 30))
    found = (play("dunk", 11.4, 0.9), play("dunk", 11.2, 0.8), play("block", 31.5, 0.7))
    assert pair_events(truth, found, tolerance_s=1.0) == (
        (truth[0], None),
        (None, found[1]),
        (truth[1], found[0]),
        (truth[2], None),
        (None, found[2]),
    )


def test_a_class_mixed_up_is_one_missed_and_one_false():
    truth, found = (play("dunk", 10),), (play("block", 10, 0.6),)
    assert set(pair_events(truth, found, tolerance_s=1.0)) == {(truth[0], None), (None, found[0])}
