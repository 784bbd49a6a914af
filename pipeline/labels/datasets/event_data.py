"""Read the event data of providers (StatsBomb, Opta, Wyscout) as labels, through kloppy.

Event data counts time from the kick-off of each period and names no footage, so both must be given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from touchline.models.errors import LabelsError
from touchline.pipeline.labels.source import LabelSource, composed
from touchline.pipeline.timecode import MatchClock
from touchline.pipeline.types import Example

if TYPE_CHECKING:
    from kloppy.domain import EventDataset

PROVIDERS = {
    "statsbomb": ("event_data", "lineup_data"),
    "opta": ("f24_data", "f7_data"),
    "wyscout": ("event_data",),
}
"""The files of each provider, by the name that kloppy gives them; the first holds the events."""


def read_event_data(
    provider: str, files: Sequence[Path], *, clocks: Mapping[Path, MatchClock]
) -> list[Example]:
    """Read one match of event data as moments, with team, player, jersey and result.

    Events of periods without a kick-off, and before the footage begins, are left out.

    Args:
        provider: A name of `PROVIDERS`.
        files: Its files, the one with the events first.
        clocks: For each video of the match, when periods kick off in it.

    Raises:
        LabelsError: A file cannot be read as the provider's.
        ValueError: The provider is unknown, kloppy is not installed, or a file is missing.
    """
    if provider not in PROVIDERS:
        raise ValueError(f"no provider {provider!r}. The providers are {', '.join(PROVIDERS)}.")
    if find_spec("kloppy") is None:
        raise ValueError("event data needs kloppy. Run pip install 'touchline[kloppy]'.")
    names = PROVIDERS[provider]
    if len(files) != len(names):
        raise ValueError(
            f"{provider} has {len(names)} files ({', '.join(names)}), not {len(files)}"
        )
    dataset = _load(provider, files)
    group = composed(" - ".join(str(team.name) for team in dataset.metadata.teams) or files[0].stem)
    examples = []
    for number, event in enumerate(dataset, start=1):
        for video, clock in clocks.items():
            kickoff_s = clock.kickoff_s.get(event.period.id)
            time_s = event.timestamp.total_seconds() + (0.0 if kickoff_s is None else kickoff_s)
            if kickoff_s is None or time_s < 0:
                continue
            examples.append(
                Example(
                    video,
                    composed(event.event_name),
                    group,
                    time_s,
                    time_s,
                    f"{files[0]} event {number}",
                    attributes=_attributes(event),
                )
            )
    return sorted(examples, key=lambda example: (example.path, example.start_s))


def _load(provider: str, files: Sequence[Path]) -> EventDataset:
    load = import_module(f"kloppy.{provider}").load
    # Reading them here first says what is wrong with a file that is missing or binary.
    contents = [BytesIO(LabelSource(file, file.parent).raw) for file in files]
    try:
        dataset: EventDataset = load(**dict(zip(PROVIDERS[provider], contents, strict=True)))
    except Exception as error:
        raise LabelsError(
            files[0],
            f"kloppy cannot read it as event data of {provider} ({type(error).__name__}: {error})",
        ) from error
    return dataset


def _attributes(event: object) -> tuple[tuple[str, str], ...]:
    team, player, result = (getattr(event, name, None) for name in ("team", "player", "result"))
    found = {
        "team": getattr(team, "name", None),
        "player": getattr(player, "full_name", None),
        "jersey": getattr(player, "jersey_no", None),
        "result": None if result is None else result.name.lower(),
    }
    return tuple((name, str(value)) for name, value in found.items() if value is not None)
