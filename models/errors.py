"""Every error Touchline raises on purpose, in one tree.

A message says what is wrong, gives the value, and says what would be right. Commands print it as
one line; a batch reports it beside the file and goes on.
"""

import os


class TouchlineError(Exception):
    """A bad input: the file it is about and one sentence that says what to do."""

    def __init__(self, path: str | os.PathLike[str], message: str) -> None:
        self.path = os.fspath(path)
        self.message = message
        super().__init__(f"{self.path}: {message}")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        # Errors cross process boundaries; the default would replay the joined text as `path`.
        return type(self), (self.path, self.message)


class FootageError(TouchlineError):
    """Footage that cannot be read as video."""


class LabelsError(TouchlineError):
    """A label file that cannot be used; the message names the line or the JSON path."""


class CheckpointError(TouchlineError):
    """A checkpoint that is not ours, is damaged, or does not fit what it is used for."""


class WeightsError(TouchlineError):
    """Pretrained weights that are missing, damaged, or of another network."""
