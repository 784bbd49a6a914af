"""touchline labels: summarise a label file, list probable mistakes in it, convert it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.tools import console
from touchline.tools.results.clock import Kickoff

if TYPE_CHECKING:
    from touchline.pipeline.timecode import MatchClock
    from touchline.pipeline.types import Example, FootageHealth

SHOWN = 20
"""At most this many rows of a table, and problems, are shown; the rest is only counted."""


def labels_command(
    labels: Annotated[
        Path,
        typer.Argument(
            help="Label file of any format, or folder with one subfolder of clips per class.",
            metavar="LABELS",
            show_default=False,
        ),
    ],
    convert: Annotated[
        str | None,
        typer.Option(
            help="Write as csv, soccernet, activitynet, cvat, label-studio, elan, sportscode, osl "
            "or player-spotting. Needs --out.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File to write with --convert; some formats need a folder.",
            show_default=False,
        ),
    ] = None,
    footage: Annotated[
        Path | None,
        typer.Option(
            help="Folder that footage names are relative to (default: that of LABELS). If LABELS "
            "names no video (Sportscode), the video."
        ),
    ] = None,
    rate_hz: Annotated[
        float | None,
        typer.Option(
            help="Frames per second, for formats that count frames. CVAT is written at the "
            "footage's own rate if that is known."
        ),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            help="LABELS is event data of statsbomb, opta or wyscout. Give the footage with "
            "--footage, and --kickoff for each period of it.",
            show_default=False,
        ),
    ] = None,
    lineups: Annotated[
        Path | None,
        typer.Option(
            help="Second file of --provider: the line-ups of statsbomb, the F7 file of opta.",
            show_default=False,
        ),
    ] = None,
    kickoff: Kickoff = None,
    head: Annotated[
        str,
        typer.Option(help="Head to read, if LABELS has several (OSL JSON).", show_default=False),
    ] = "",
    look_alikes: Annotated[
        bool, typer.Option("--look-alikes", help="Search for nearly identical clips in two groups.")
    ] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Show all groups and problems.")] = False,
) -> None:
    """Summarise a label file, list probable mistakes in it, or convert it to another format."""
    from touchline.models.spelling import counted
    from touchline.pipeline.labels.checks import find_problems
    from touchline.pipeline.labels.datasets.event_data import read_event_data
    from touchline.pipeline.labels.read import read_labels, split_verified

    if (convert is None) != (out is None):
        raise ValueError("--convert FORMAT and --out FILE belong together. Give both or neither.")
    console.keep_inputs(out, labels)
    if provider is None:
        if lineups is not None or kickoff:
            raise ValueError("--lineups and --kickoff are for event data. Give --provider too.")
        every = read_labels(
            labels, footage_folder=footage, rate_hz=rate_hz, verified=True, head=head
        )
    else:
        files = [labels] if lineups is None else [labels, lineups]
        every = read_event_data(provider, files, clocks=_clocks(footage, kickoff or []))
    examples, verified = split_verified(every)
    healths, problems = _probe(every)
    durations = {path: health.duration_s for path, health in healths.items()}
    problems += find_problems(examples, durations)
    if look_alikes:
        problems += _look_alikes([e for e in examples if e.path in healths])
    rows = None if show_all else SHOWN
    console.say(str(labels))
    _show_summary(examples, durations)
    # A stretch without length says that nothing is verified.
    if verified := [one for one in verified if one.start_s is None or one.start_s != one.end_s]:
        count = len({one.path for one in verified})
        stretches = f"{counted(len(verified), 'verified stretch')} in {counted(count, 'file')}"
        console.out.print(f"{stretches}: every event in them is labelled", highlight=False)
    _show_classes(examples, durations)
    _show_groups(examples, rows)
    # Every problem names the label file. It is printed once above, so drop it here.
    source = re.compile(rf"(^|\(| and | as ){re.escape(str(labels))} ")
    _show_problems([source.sub(r"\1", problem) for problem in problems], rows)
    if convert is not None and out is not None:
        _convert(every, convert, out, rate_hz=rate_hz, healths=healths)


def _clocks(footage: Path | None, kickoffs: list[str]) -> dict[Path, MatchClock]:
    """The match clock of each video that --footage or a kick-off names."""
    from touchline.pipeline.timecode import parse_kickoffs

    named = [text.partition("=")[2].rpartition("@")[0] for text in kickoffs]
    if not kickoffs or footage is None or (all(named) != any(named)):
        raise ValueError(
            "--provider needs --footage MATCH.mp4 and --kickoff for each period, such as "
            "--kickoff 1=0:02:10. For halves in two files, --footage is their folder and each "
            "kick-off names its file, such as --kickoff 2=second.mp4@0:00:05."
        )
    videos = [footage / name for name in dict.fromkeys(named)] if all(named) else [footage]
    clocks = {}
    for video in videos:
        if clock := parse_kickoffs(kickoffs, file_name=video.name):
            clocks[video] = clock
    return clocks


def _probe(examples: Sequence[Example]) -> tuple[dict[Path, FootageHealth], list[str]]:
    """What each footage file declares, and a message for each that cannot be read."""
    from touchline.models.errors import FootageError
    from touchline.pipeline.decoding.probe import probe_footage

    paths = sorted({example.path for example in examples})
    present = [path for path in paths if path.exists()]
    healths: dict[Path, FootageHealth] = {}
    problems = []
    if len(present) < len(paths):
        missing = next(path for path in paths if not path.exists())
        problems.append(
            f"{len(paths) - len(present)} of {len(paths)} footage files do not exist, for example "
            f"{missing}. Give their folder with --footage."
        )
    for path in present:
        try:
            healths[path] = probe_footage(path)
        except FootageError as error:
            problems.append(str(error))
    return healths, problems


def _look_alikes(examples: Sequence[Example]) -> list[str]:
    from touchline.pipeline.clips.leakage import hash_all, near_duplicates

    with console.progress_bar(quiet=False) as progress:
        task = progress.add_task("searching for look-alikes", total=len(examples), note="")
        hashes, unreadable = hash_all(
            examples, on_clip=lambda done: progress.update(task, completed=done)
        )
    return unreadable + [
        f"{pair.first.source} and {pair.second.source} show almost the same "
        f"({pair.distance_bits:g} of 64 bits differ), but are in the groups {pair.first.group!r} "
        f"and {pair.second.group!r}. Put them into one group."
        for pair in near_duplicates(hashes, {example: example.group for example in hashes})
    ]


def _length_s(example: Example, durations: Mapping[Path, float]) -> float | None:
    if example.start_s is None or example.end_s is None:
        return durations.get(example.path)
    return example.end_s - example.start_s


def _show_summary(examples: Sequence[Example], durations: Mapping[Path, float]) -> None:
    from touchline.models.spelling import counted
    from touchline.pipeline.labels.checks import names_a_side, no_groups
    from touchline.pipeline.labels.csv_files import attribute_columns
    from touchline.pipeline.labels.read import class_names

    classes = {example.label for example in examples}
    groups = {example.group for example in examples}
    files = {example.path for example in examples}
    console.out.print(
        f"{counted(len(examples), 'label')} of {counted(len(classes), 'class')} in "
        f"{counted(len(files), 'file')} of {counted(len(groups), 'group')}, "
        f"{sum(durations.values()):.0f} s of footage",
        highlight=False,
    )
    if notice := no_groups(examples):
        console.say(notice)
    if names := attribute_columns(examples, taken=()):
        console.out.print(console.escape(f"attributes: {', '.join(names)}"), soft_wrap=True)
    if "background" not in classes:
        console.out.print("no class is background: to train on these, add eventless footage")
    if sides := [label for label in class_names(examples) if names_a_side(label)]:
        console.out.print(
            f"{console.escape(', '.join(sides))}: the class names a side, so training does not "
            "mirror clips"
        )


def _show_classes(examples: Sequence[Example], durations: Mapping[Path, float]) -> None:
    from statistics import median

    from rich.table import Table

    from touchline.pipeline.labels.read import class_names

    table = Table(box=None, title="classes", title_justify="left")
    table.add_column("class")
    for name in ("labels", "share", "groups", "hidden", "shortest s", "median s", "longest s"):
        table.add_column(name, justify="right")
    for label in class_names(examples):
        mine = [example for example in examples if example.label == label]
        if not mine:
            continue
        lengths = [s for e in mine if (s := _length_s(e, durations)) is not None]
        spread = (min(lengths), median(lengths), max(lengths)) if lengths else ()
        table.add_row(
            console.escape(label),
            str(len(mine)),
            f"{len(mine) / len(examples):.0%}",
            str(len({example.group for example in mine})),
            str(sum(not example.visible for example in mine)),
            *(f"{length:.2f}" for length in spread),
        )
    console.out.print(table)


def _show_groups(examples: Sequence[Example], rows: int | None) -> None:
    from rich.table import Table

    table = Table(box=None, title="groups", title_justify="left")
    table.add_column("group")
    table.add_column("labels", justify="right")
    table.add_column("files", justify="right")
    table.add_column("classes")
    groups = Counter(example.group for example in examples)
    for group, number in groups.most_common(rows):
        mine = [example for example in examples if example.group == group]
        classes = Counter(example.label for example in mine).most_common()
        table.add_row(
            console.escape(group),
            str(number),
            str(len({example.path for example in mine})),
            console.escape(", ".join(f"{label} {n}" for label, n in classes)),
        )
    console.out.print(table)
    if rows is not None and len(groups) > rows:
        console.out.print(f"and {len(groups) - rows} more groups (--all shows them)")


def _show_problems(problems: Sequence[str], rows: int | None) -> None:
    if not problems:
        console.out.print("no problems found")
        return
    console.out.print(f"problems: {len(problems)}")
    for problem in problems[:rows]:
        console.out.print(f"  {console.escape(problem)}", soft_wrap=True, highlight=False)
    if rows is not None and len(problems) > rows:
        console.out.print(f"  and {len(problems) - rows} more (--all shows them)")


def _convert(
    examples: Sequence[Example],
    format_name: str,
    out: Path,
    *,
    rate_hz: float | None,
    healths: Mapping[Path, FootageHealth],
) -> None:
    from touchline.models.atomic_files import write_atomic
    from touchline.pipeline.labels.formats import BY_NAME
    from touchline.pipeline.labels.read import label_texts, with_times

    form = BY_NAME.get(format_name)
    if form is not None and form.needs_times:
        examples = with_times(examples, {path: h.duration_s for path, h in healths.items()})
    texts = label_texts(examples, out, format_name=format_name, rate_hz=rate_hz, healths=healths)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
        console.out.print(f"Wrote {console.escape(str(path))}", soft_wrap=True, highlight=False)
    if form is not None and form.loses:
        console.warn(f"{format_name} cannot hold {form.loses}")
