"""Find probable mistakes in labels. They are reported, never changed."""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path

import numpy as np

from touchline.models.classes import BACKGROUND, VERIFIED
from touchline.pipeline.types import Example

# Containers and players disagree about the end of a file by this much.
END_TOLERANCE_S = 0.1

# Adjacent labels may overlap by this much because times are rounded.
ROUNDING_S = 1e-6

# Lengths closer than this count as equal.
SAME_LENGTH_S = 0.1

# Fewer clips than this are not enough to judge lengths.
MIN_CLIPS = 20

HALVINGS = 20

WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
SIDE = re.compile(r"^([lr]|(left|right)(y|s|er|most|wards?|side[ds]?|hand(ed)?|foot(ed)?|wing)?)$")


def find_problems(examples: Sequence[Example], durations: Mapping[Path, float]) -> list[str]:
    """List probable mistakes, one message each, with the place of the label.

    These are: classes with similar names, labels after the end of the footage, duplicates,
    overlaps, and clips whose class can be told by their length. `durations` gives the seconds of
    each footage file that is known.
    """
    return [
        *_almost_reserved(examples),
        *_alike_classes(examples),
        *_beyond_footage(examples, durations),
        *_duplicates(examples),
        *_overlaps(examples),
        *_telling_lengths(examples, durations),
    ]


def no_groups(examples: Sequence[Example]) -> str | None:
    """Return a sentence if the labels name no match, so that every file counts as one."""
    files = {example.path for example in examples}
    if len(files) < 2 or any(Path(e.group).name != e.path.name for e in examples):
        return None
    return (
        f"the labels name no match (group), so each of the {len(files)} files counts as a match of "
        "its own. If several files are of one match, give them the same group: a model must be "
        "measured on other matches than it was trained on."
    )


def _almost_reserved(examples: Sequence[Example]) -> Iterator[str]:
    for label in sorted({example.label for example in examples} - {BACKGROUND}):
        if plain_name(label) == VERIFIED:
            where = next(e.source for e in examples if e.label == label)
            yield (
                f"{where}: the class {label!r} counts as an event. If all events of this stretch "
                f"are labelled, call it {VERIFIED}"
            )
        if plain_name(label) == BACKGROUND:
            where = next(e.source for e in examples if e.label == label)
            yield (
                f"{where}: the class {label!r} counts as an event. If nothing happens there, train "
                f"with --background-label {shlex.quote(label)}"
            )


def plain_name(label: str) -> str:
    """Return a class name without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", label).casefold()


def _alike_classes(examples: Sequence[Example]) -> Iterator[str]:
    counts = Counter(example.label for example in examples)
    for first, second in combinations(sorted(counts), 2):
        rare, common = sorted((first, second), key=lambda label: (counts[label], label))
        plain = [plain_name(label) for label in (rare, common)]
        misspelt = (
            counts[rare] <= 2
            and counts[common] >= 5 * counts[rare]
            and SequenceMatcher(None, plain[0], plain[1]).ratio() > 0.85
        )
        if plain[0] == plain[1] or misspelt:
            where = next(e.source for e in examples if e.label == rare)
            yield (
                f"{where}: the class {rare!r} ({counts[rare]}) is spelt almost like {common!r} "
                f"({counts[common]}). If they are the same class, use one name."
            )


def _beyond_footage(examples: Sequence[Example], durations: Mapping[Path, float]) -> Iterator[str]:
    for example in examples:
        duration_s = durations.get(example.path)
        if duration_s is None or example.end_s is None:
            continue
        if example.end_s > duration_s + END_TOLERANCE_S:
            yield (
                f"{example.source}: {example.label!r} ends at {example.end_s:g} s, but "
                f"{example.path.name} lasts {duration_s:.3f} s"
            )


def _duplicates(examples: Sequence[Example]) -> Iterator[str]:
    first: dict[tuple[object, ...], Example] = {}
    for example in examples:
        key = (example.path, example.label, example.start_s, example.end_s)
        if key in first:
            yield f"{example.source}: the same label as {first[key].source}"
        first.setdefault(key, example)


def _overlaps(examples: Sequence[Example]) -> Iterator[str]:
    """Report pairs of labels that overlap in one file, of the same class or not."""
    by_path: dict[Path, list[tuple[float, float, Example]]] = defaultdict(list)
    for example in examples:
        start_s = 0.0 if example.start_s is None else example.start_s
        end_s = np.inf if example.end_s is None else example.end_s
        by_path[example.path].append((start_s, end_s, example))
    for spans in by_path.values():
        running: list[tuple[float, float, Example]] = []
        for start_s, end_s, example in sorted(spans, key=lambda span: span[:2]):
            running = [span for span in running if span[1] > start_s + ROUNDING_S]
            for other_start_s, other_end_s, other in running:
                same = (start_s, end_s) == (other_start_s, other_end_s)
                if same and example.label == other.label:
                    continue  # reported as a duplicate
                shared_s = min(end_s, other_end_s) - start_s
                amount = f"by {shared_s:g} s" if np.isfinite(shared_s) else "over the whole file"
                yield (
                    f"{example.source}: {example.label!r} overlaps {other.label!r} "
                    f"({other.source}) {amount}"
                )
            running.append((start_s, end_s, example))


def _telling_lengths(examples: Sequence[Example], durations: Mapping[Path, float]) -> Iterator[str]:
    clips = [
        (durations[e.path], e.label) for e in examples if e.start_s is None and e.path in durations
    ]
    if len(clips) < MIN_CLIPS or len({label for _, label in clips}) < 2:
        return
    lengths_s, labels = zip(*clips, strict=True)
    accuracy = length_accuracy(lengths_s, labels)
    share = max(Counter(labels).values()) / len(labels)
    if accuracy - share > 0.25 * (1 - share):
        by_label: dict[str, list[float]] = defaultdict(list)
        for length_s, label in clips:
            by_label[label].append(length_s)
        medians = ", ".join(f"{k} {np.median(v):.2f} s" for k, v in sorted(by_label.items()))
        yield (
            f"clip length alone predicts the class of {accuracy:.0%} of the clips; the largest "
            f"class has {share:.0%} of them (medians: {medians}). A model may learn the length "
            "instead of the event. Cut the clips to one length, or train with --max-clip SECONDS."
        )


def length_accuracy(lengths_s: Sequence[float], labels: Sequence[str]) -> float:
    """Measure how well the length of a clip predicts its class: the share predicted correctly.

    Each clip is predicted to have the most frequent class among clips of its length in the other
    half of the clips. The result is the mean over random halves. For a tie, or without clips of
    its length, it is the largest class of that half. (Leave-one-out would not do: it makes the
    clip's own class rarer, so that classes of equal size would never be predicted.)
    """
    order = np.argsort(lengths_s, kind="stable")
    lengths = np.asarray(lengths_s, dtype=np.float64)[order]
    names = sorted(set(labels))
    own = np.array([names.index(labels[i]) for i in order])
    one_hot = np.eye(len(names))[own]  # (N, K)
    first = np.searchsorted(lengths, lengths - SAME_LENGTH_S, side="left")
    last = np.searchsorted(lengths, lengths + SAME_LENGTH_S, side="right")
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(HALVINGS):
        known = rng.permutation(len(own)) < len(own) // 2
        seen = np.cumsum(one_hot * known[:, None], axis=0)
        counts = np.concatenate([np.zeros_like(seen[:1]), seen])
        # The counts over all lengths break ties: they add less than one vote.
        votes = counts[last] - counts[first] + counts[-1] / (len(own) + 1)
        shares.append(np.mean((np.argmax(votes, axis=1) == own)[~known]))
    return float(np.mean(shares))


def names_a_side(label: str) -> bool:
    """Check whether a class name contains left or right, so that a mirrored clip would be wrong."""
    return any(SIDE.match(word.lower()) for word in WORDS.findall(label))
