"""Choose between whole windows and a trunk that runs once over the footage."""

from __future__ import annotations

from dataclasses import dataclass

from touchline.models.checkpoint import TrainedModel
from touchline.models.training_record import SharedAgreement
from touchline.pipeline.clips.windows import hop_samples

LEAST_AGREEMENT = 0.98
"""`auto` shares a trunk over space and time from this agreement with whole windows on."""


@dataclass(frozen=True)
class Mode:
    """How windows are scored.

    Attributes:
        shared: Whether the trunk runs once over the footage, and the head slides over its features.
        why: Why "auto" chose this, as a sentence; empty if it had no choice.
    """

    shared: bool
    why: str = ""


def choose_mode(
    model: TrainedModel, mode: str, *, hop_s: float | None = None, engine: str = "torch"
) -> Mode:
    """Say how windows are scored.

    "auto" shares a trunk that sees single frames, because that is exact. A trunk over space and
    time it shares where training found that this agrees with whole windows.

    Args:
        model: The model.
        mode: "windows", "shared" or "auto".
        hop_s: Seconds between windows; None: a quarter of the window.
        engine: What the trunk is to run on. Other engines than PyTorch run whole windows only.
    """
    if mode != "auto":
        return Mode(mode == "shared")
    if model.backbone.framewise:
        return Mode(True)
    if not model.backbone.slides_in_time:
        return Mode(False)
    agreement = model.record.shared
    if agreement is None:
        return _windows("it was not measured how well a shared trunk agrees with them")
    if agreement.mean_ap is None:
        return _windows("no events were found where a shared trunk was compared with them")
    if agreement.mean_ap < LEAST_AGREEMENT:
        return _windows(f"a shared trunk agrees with them at {agreement_text(agreement)}")
    if engine not in ("auto", "torch"):
        return _windows(f"{engine} runs nothing else")
    hop = hop_samples(model.spec, hop_s)
    if hop % agreement.stride:
        rate_hz = model.spec.rate_hz
        return _windows(
            f"a hop of {hop / rate_hz:g} s is not a multiple of {agreement.stride / rate_hz:g} s"
        )
    return Mode(
        True,
        "auto shares the trunk: it agrees with whole windows at " + agreement_text(agreement),
    )


def runs_on(engine: str, *, int8: bool, compiled: bool) -> str:
    """Name what a trunk runs on, for `choose_mode`.

    Args:
        engine: The engine that was asked for.
        int8: Whether a file in int8 was given.
        compiled: Whether the network is compiled.
    """
    if compiled:
        return "a compiled network"
    return "a network in int8" if int8 else engine


def agreement_text(agreement: SharedAgreement) -> str:
    """Return the agreement in a few words, next to the least that `auto` asks for."""
    if agreement.mean_ap is None:
        return "no event to compare"
    # Rounded down, so that 0.9799 does not read as enough.
    return f"mAP {int(agreement.mean_ap * 1000) / 1000:.3f} at 1 s (at least {LEAST_AGREEMENT:g})"


def _windows(why: str) -> Mode:
    return Mode(False, f"auto scores whole windows: {why}")
