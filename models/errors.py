"""The errors that Touchline raises for bad input files, in one tree.

A message says what happened, why, and what to do. Commands print it as one line. A batch reports
it with the file and goes on to the next one.
"""

import os


class TouchlineError(Exception):
    """A bad input file.

    Args:
        path: The file.
        message: What happened, why, and what to do.
    """

    def __init__(self, path: str | os.PathLike[str], message: str) -> None:
        self.path = os.fspath(path)
        self.message = message
        super().__init__(f"{self.path}: {message}")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        # Errors cross process boundaries; the default would replay the joined text as `path`.
        return type(self), (self.path, self.message)


class FootageError(TouchlineError):
    """The footage cannot be read as video."""


class DecoderError(FootageError):
    """The process that decodes footage crashed, hung or needed too much memory."""


class PhotoError(TouchlineError):
    """The photo cannot be read as a picture, or a folder of photos cannot be used."""


class TextError(TouchlineError):
    """The text cannot be read, or is too short to learn from."""


class LabelsError(TouchlineError):
    """The label file or events.json cannot be used. The message names the line or the JSON path."""


class CheckpointError(TouchlineError):
    """The file is not a Touchline checkpoint, is damaged, or does not fit its use."""


class WeightsError(TouchlineError):
    """The pretrained weights are missing, damaged, or belong to another network."""


def check_seed(seed: int) -> None:
    """Check that every random number generator takes a seed.

    Args:
        seed: In [0, 2**31).

    Raises:
        ValueError: It is not.
    """
    if not 0 <= seed < 2**31:
        raise ValueError(f"seed is {seed}; it must be in [0, {2**31 - 1}]")
