"""Label formats in JSON: SoccerNet's Labels-v2, ActivityNet and Label Studio."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from touchline.models.errors import LabelsError
from touchline.pipeline.label_source import (
    FOOTAGE_SUFFIXES,
    HOW_TO_GIVE_A_RATE,
    JsonValue,
    LabelSource,
    LabelTarget,
    files_below,
    footage_in,
    make_example,
    relative_name,
)
from touchline.pipeline.types import Example

SOCCERNET_FILE = "Labels-v2.json"
HALF_FILE = re.compile(r"^(?P<half>\d+)(_\w+)?\.(mkv|mp4)$")
# 224p first: it is what the networks see, and decodes faster.
HALF_SUFFIXES = tuple(
    name + ending for ending in (".mkv", ".mp4") for name in ("_224p", "_720p", "_HQ", "")
)
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


def is_soccernet(source: LabelSource) -> bool:
    if source.kind != "json":
        return False
    for key in ("annotations", "predictions"):
        if source.json.has(key) and isinstance(rows := source.json[key].value, list):
            named = source.path.name == SOCCERNET_FILE or source.json.has("UrlLocal")
            return named or any(isinstance(row, dict) and "gameTime" in row for row in rows)
    return False


def read_soccernet(source: LabelSource) -> list[Example]:
    """A match of SoccerNet-v2 (Deliege et al. 2021): points in time, one file per half.

    `position` is milliseconds from the start of the half's file. The group is the match, from
    UrlLocal. Predictions in the same form are read with their confidence.
    """
    match = source.json
    key = "annotations" if match.has("annotations") else "predictions"
    group = _soccernet_match(source)
    examples = []
    for row in match[key].elements():
        half = row["gameTime"].text().split("-")[0].strip()
        if not half.isdecimal():
            raise row["gameTime"].error(
                f"{row['gameTime'].value!r} does not begin with the half, such as '1 - 05:00'"
            )
        time_s = row["position"].number() / 1000
        examples.append(
            make_example(
                source,
                row.where,
                video=_half_file(source.footage_folder, half),
                label=row["label"].text(),
                group=group,
                start_s=time_s,
                end_s=time_s,
                visible=_visible(row),
                score=_score(row, "confidence"),
            )
        )
    return examples


def read_soccernet_tree(source: LabelSource) -> list[Example]:
    """Every match below a SoccerNet folder, each from its own Labels-v2.json."""
    examples = []
    for path in sorted(f for f in files_below(source.path) if f.name == SOCCERNET_FILE):
        match = LabelSource(path, source.footage_folder / path.parent.relative_to(source.path))
        if not is_soccernet(match):
            raise LabelsError(path, "no list 'annotations': this is no SoccerNet label file")
        examples.extend(read_soccernet(match))
    return examples


def _soccernet_match(source: LabelSource) -> str:
    url = source.json["UrlLocal"].text() if source.json.has("UrlLocal") else ""
    parts = [part for part in url.replace("\\", "/").split("/") if part]
    if parts and HALF_FILE.match(parts[-1]):
        parts.pop()
    return "/".join(parts) or source.footage_folder.resolve().name


def _half_file(folder: Path, half: str) -> str:
    names = [half + suffix for suffix in HALF_SUFFIXES]
    return next((name for name in names if (folder / name).exists()), names[0])


def _visible(row: JsonValue) -> bool:
    if not row.has("visibility"):
        return True
    word = row["visibility"].text()
    if word not in ("visible", "not shown"):
        raise row["visibility"].error(f"{word!r}; it must be 'visible' or 'not shown'")
    return word == "visible"


def _score(row: JsonValue, key: str) -> float:
    if not row.has(key):
        return 1.0
    score = row[key].number()
    if score > 1:
        raise row[key].error(f"{score:g}; it must be in [0, 1]")
    return score


def write_soccernet(examples: Sequence[Example], target: LabelTarget) -> str:
    """One match; an interval becomes its most certain instant."""
    groups = sorted({example.group for example in examples})
    if len(groups) > 1:
        raise ValueError(f"SoccerNet holds one match per file; these are {', '.join(groups)}")
    rows = []
    halves: dict[str, Path] = {}
    for example in examples:
        named = HALF_FILE.match(example.path.name)
        if named is None:
            raise ValueError(
                f"SoccerNet's footage is one file per half, 1_224p.mkv and 2_224p.mkv; "
                f"{example.path.name} is not named so"
            )
        half = halves.setdefault(named["half"], example.path)
        if example.path != half or half.parent != examples[0].path.parent:
            raise ValueError(
                "SoccerNet holds one file per half, all in one folder; "
                f"these are {examples[0].path}, {half} and {example.path}"
            )
        ms = round(example.event().peak_s * 1000)
        minutes, seconds = divmod(ms // 1000, 60)
        rows.append(
            {
                "gameTime": f"{named['half']} - {minutes:02d}:{seconds:02d}",
                "label": example.label,
                "position": str(ms),
                "team": "not applicable",
                "visibility": "visible" if example.visible else "not shown",
            }
        )
    return _dump({"UrlLocal": f"{groups[0]}/" if groups else "", "annotations": rows})


def is_activitynet(source: LabelSource) -> bool:
    return source.kind == "json" and (source.json.has("database") or source.json.has("results"))


def read_activitynet(source: LabelSource) -> list[Example]:
    """ActivityNet: segments [start, end] in seconds, per video.

    The footage is the file of the footage folder with the video's name, whatever its ending;
    `file` and `group` of an entry are read where they are there. Detections in ActivityNet's
    form ("results") are read with their score.
    """
    ground_truth = source.json.has("database")
    examples = []
    listed: dict[Path, dict[str, list[str]]] = {}
    for name, entry in source.json["database" if ground_truth else "results"].members():
        rows = entry["annotations"] if ground_truth else entry
        video = _named_footage(source, name, entry, listed)
        group = entry["group"].text() if entry.has("group") else name
        for row in rows.elements():
            start_s, end_s = _segment(row["segment"])
            examples.append(
                make_example(
                    source,
                    row.where,
                    video=video,
                    label=row["label"].text(),
                    group=group,
                    start_s=start_s,
                    end_s=end_s,
                    score=_score(row, "score"),
                )
            )
    return examples


def _segment(segment: JsonValue) -> tuple[float, float]:
    times = [value.number() for value in segment.elements()]
    if len(times) != 2:
        raise segment.error(f"{len(times)} numbers; it must be [start, end] in seconds")
    return times[0], times[1]


def _named_footage(
    source: LabelSource, name: str, entry: JsonValue, listed: dict[Path, dict[str, list[str]]]
) -> str:
    """The footage of a video given by name alone; the name itself where there is none.

    listed: the footage of folders that were looked into, by its name without the ending.
    """
    if entry.has("file"):
        return entry["file"].text()
    wanted = source.footage_folder / name
    if "\0" in name or not wanted.parent.is_dir() or wanted.is_file():
        return name
    if wanted.parent not in listed:
        by_stem = listed[wanted.parent] = defaultdict(list)
        for path in wanted.parent.iterdir():
            if path.suffix.lower() in FOOTAGE_SUFFIXES:
                by_stem[path.stem].append(path.name)
    # ActivityNet's own files are named v_<name>.
    here = listed[wanted.parent]
    found = sorted(here.get(wanted.name, []) + here.get(f"v_{wanted.name}", []))
    if len(found) > 1:
        raise entry.error(f"{' and '.join(found)} could both be this video; keep one of them there")
    return (Path(name).parent / found[0]).as_posix() if found else name


def write_activitynet(examples: Sequence[Example], target: LabelTarget) -> str:
    """Every video under its name without ending, which `file` gives in full."""
    database: dict[str, dict[str, object]] = {}
    for path, mine in _by_footage(examples):
        name = relative_name(path, target.folder)
        groups = sorted({example.group for example in mine})
        key = Path(name).with_suffix("").as_posix()
        if key in database:
            raise ValueError(f"two files are called {key} but for their ending; rename one")
        database[key] = {
            "file": name,
            "group": groups[0],
            "annotations": [
                {"segment": [event.start_s, event.end_s], "label": event.label}
                for event in (example.event() for example in mine)
            ],
        }
    return _dump({"version": "1.3", "database": database})


def is_label_studio(source: LabelSource) -> bool:
    if source.kind != "json" or not isinstance(source.json.value, list):
        return False
    marks = {"annotations", "predictions", "annotator"}
    return all(isinstance(task, dict) and marks & task.keys() for task in source.json.value)


def read_label_studio(source: LabelSource) -> list[Example]:
    """Label Studio's JSON export: `timelinelabels` ranges in frames, counted from 1, both ends in.

    Frames are of the rate declared in the labelling setup: `rate_hz`, else the task's `data.fps`.
    A task's `data.group` is its group.
    """
    return [example for task in source.json.elements() for example in _task(source, task)]


def _task(source: LabelSource, task: JsonValue) -> Iterator[Example]:
    if not task.has("data"):
        raise task.error("no 'data' here: export the project as JSON, not as JSON-MIN or CSV")
    video = _task_footage(source, task["data"])
    group = task["data"]["group"].text() if task["data"].has("group") else ""
    for region in _accepted_regions(task):
        if region.has("type") and region["type"].value == "relation":
            continue  # between two regions; it has no time of its own
        value = region["value"]
        if value.has("ranges") and not value.has("timelinelabels"):
            raise value.error("a stretch of time without a label; give it one, or delete it")
        if not value.has("timelinelabels"):
            continue
        rate_hz = _declared_rate(source, task["data"])
        for span in value["ranges"].elements():
            first = span["start"].number()
            if first < 1:
                raise span["start"].error(f"{first:g}; Label Studio counts frames from 1")
            labels = value["timelinelabels"].elements()
            if not labels:
                raise value.error("a stretch of time without a label; give it one, or delete it")
            for label in labels:
                yield make_example(
                    source,
                    span.where,
                    video=video,
                    label=label.text(),
                    group=group,
                    start_s=(first - 1) / rate_hz,
                    end_s=span["end"].number() / rate_hz,
                )


def _accepted_regions(task: JsonValue) -> list[JsonValue]:
    """The regions of the one annotation that counts; two annotators must not count double."""
    if not task.has("annotations"):
        raise task.error("only predictions in it: accept or correct them in Label Studio first")
    kept = [a for a in task["annotations"].elements() if not _flag(a, "was_cancelled")]
    if len(kept) > 1:
        kept = [a for a in kept if _flag(a, "ground_truth")] or kept
    if len(kept) > 1:
        raise task["annotations"].error(
            f"{len(kept)} annotations of one task; mark one of them as ground truth"
        )
    return kept[0]["result"].elements() if kept else []


def _flag(annotation: JsonValue, key: str) -> bool:
    return annotation.has(key) and bool(annotation[key].value)


def _declared_rate(source: LabelSource, task: JsonValue) -> float:
    if source.rate_hz is not None:
        return source.rate_hz
    if not task.has("fps"):
        raise task.error(
            "ranges are in frames, and the export does not say how many make a second, but the "
            f"project's <Video> tag does (its frameRate, 24 unless set): {HOW_TO_GIVE_A_RATE}"
        )
    rate_hz = task["fps"].number()
    if rate_hz <= 0:
        raise task["fps"].error(f"{rate_hz:g} frames per second; it must be more than 0")
    return rate_hz


def _task_footage(source: LabelSource, task: JsonValue) -> str:
    texts = {k: v for k, v in task.members() if isinstance(v.value, str) and k != "group"}
    if "video" not in texts and len(texts) != 1:
        raise task.error("no 'video' here that names the footage")
    url = texts.get("video", *texts.values()) if len(texts) == 1 else texts["video"]
    parts = urlsplit(url.text())
    local = parts.path.rstrip("/").endswith("/data/local-files")
    if local and "d" in (query := parse_qs(parts.query)):  # /data/local-files/?d=folder/match.mp4
        return footage_in(source, query["d"][0])
    if parts.path.startswith("/data/upload/"):
        name = unquote(Path(parts.path).name)
        there = (source.footage_folder / name).exists()
        return name if there else UPLOAD_PREFIX.sub("", name)
    # What is no address is a name as it stands, whatever colon it has.
    stored = "://" in url.text() and parts.scheme
    return footage_in(source, unquote(parts.path).lstrip("/") if stored else url.text())


def write_label_studio(examples: Sequence[Example], target: LabelTarget) -> str:
    """Tasks with their annotation, ready to be imported; times to one frame."""
    tasks: list[dict[str, object]] = []
    for path, mine in _by_footage(examples):
        # Its frames are those of the project's setup, which may differ from the footage's.
        rate_hz = target.rate_of(path, own_first=False)
        data = {
            "video": relative_name(path, target.folder),
            "fps": rate_hz,
            "group": mine[0].group,
        }
        regions = [_region(example, rate_hz) for example in mine]
        tasks.append({"id": len(tasks) + 1, "data": data, "annotations": [{"result": regions}]})
    return _dump(tasks)


def _region(example: Example, rate_hz: float) -> dict[str, object]:
    event = example.event()
    first = round(event.start_s * rate_hz) + 1
    last = max(first, round(event.end_s * rate_hz))
    return {
        "type": "timelinelabels",
        "from_name": "timeline",
        "to_name": "video",
        "value": {"ranges": [{"start": first, "end": last}], "timelinelabels": [event.label]},
    }


def _by_footage(examples: Sequence[Example]) -> Iterator[tuple[Path, list[Example]]]:
    """Examples by footage; ValueError where one file has several groups."""
    for path, mine in groupby(sorted(examples, key=lambda e: e.path), key=lambda e: e.path):
        together = list(mine)
        if len({example.group for example in together}) > 1:
            raise ValueError(f"{path} has labels of several groups; this format keeps one")
        yield path, together


def _dump(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
