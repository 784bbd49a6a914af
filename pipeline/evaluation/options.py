"""Choose what an evaluation measures; `touchline evaluate` takes its defaults from here."""

from __future__ import annotations

from dataclasses import dataclass

from touchline.models.errors import check_seed


@dataclass(frozen=True)
class EvaluateOptions:
    """Choose metrics, thresholds and how confidence intervals are computed.

    Attributes:
        metrics: Names from `METRICS`. Empty: spotting, and activitynet if labels have lengths.
        tolerances_s: Replace the thresholds of metrics in seconds (spotting: half the window;
            soccernet: the full window).
        tious: Replace the thresholds of metrics in temporal IoU, each in (0, 1].
        resamples: Number of bootstrap resamples, and of permutations in a comparison. 0 skips
            confidence intervals and significance tests.
        seed: Random seed of both.
        bins_per_second: Bins of the soccernet metrics. SoccerNet uses 2 for its actions, and 25 for
            its ball actions.
        block_s: Resample stretches of this many seconds instead of matches; None: matches.

    Raises:
        ValueError: The seed is not in [0, 2**31).

    Example:
        >>> from touchline.pipeline import EvaluateOptions, evaluate_events, read_event_set
        >>> truth = read_event_set("labels.csv")
        >>> options = EvaluateOptions(metrics=("thumos",), tious=(0.5,), resamples=0)
        >>> evaluate_events(truth, truth, options).metrics[0].headline.value
        1.0
    """

    metrics: tuple[str, ...] = ()
    tolerances_s: tuple[float, ...] | None = None
    tious: tuple[float, ...] | None = None
    resamples: int = 1000
    seed: int = 0
    block_s: float | None = None
    bins_per_second: float = 2.0

    def __post_init__(self) -> None:
        check_seed(self.seed)
