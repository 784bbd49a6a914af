"""Read times as people and editing programs write them: seconds, H:MM:SS, and timecode."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from touchline.models.errors import LabelsError
from touchline.pipeline.labels.parsed import parse_number
from touchline.pipeline.labels.source import LabelSource, frame_clock
from touchline.pipeline.timecode import FrameRate, nearest_standard, parse_time

TIMECODE = re.compile(r"\d{1,2}:\d\d:\d\d[:;]\d\d\d?", re.ASCII)


class TimeReader:
    """Turns the times of a label file into seconds of its footage.

    Timecode counts frames at the rate of the footage, or `rate_hz`, from the timecode of the first
    frame. The headers of each video are read once.
    """

    def __init__(self, source: LabelSource) -> None:
        self._source = source
        # The time of frame 0 in seconds, the frames per second, and the timecode of frame 0.
        self._clocks: dict[str, tuple[float, float, str | None]] = {}

    def seconds(self, where: str, text: str, video: str) -> float:
        """Return the time in seconds from the start of a video.

        Args:
            where: The place in the file, for messages.
            text: The time.
            video: The video.

        Raises:
            LabelsError: It is not a time, or it is timecode and the frame rate is unknown.
        """
        if ":" not in text:
            return parse_number(self._source.path, where, text)
        if TIMECODE.fullmatch(text):
            start = self.start(where, video)
            frame = self.frame(where, text, video)
            if start is not None:
                frame -= self.frame(where, start, video)
            if frame < 0:
                raise self._error(
                    where,
                    f"{text} is before {start}, the timecode of the first frame. Write the time "
                    "from the start of the file, such as 0:00:12.5.",
                )
            return self.frame_s(where, frame, video)
        try:
            return parse_time(text)
        except ValueError as error:
            raise self._error(where, str(error)) from None

    def frame(self, where: str, text: str, video: str) -> int:
        """Return the frame that a timecode names, counted from 00:00:00:00.

        Args:
            where: The place in the file, for messages.
            text: The timecode.
            video: The video.

        Raises:
            LabelsError: It is no timecode at the rate of the video, or the rate is unknown.
        """
        _, rate_hz, start = self._clock(where, video)
        if not TIMECODE.fullmatch(text):
            raise self._error(where, f"{text!r} is not a timecode. Write H:MM:SS:FF.")
        if int(re.split("[:;]", text)[-1]) >= rate_hz:
            raise self._error(
                where,
                f"{text} counts more frames than the {rate_hz:g} per second of the footage. Give "
                "the rate that it was counted at with --rate-hz.",
            )
        try:
            rate = FrameRate(nearest_standard(Fraction(rate_hz)), drop_frame=";" in (start or text))
            return rate.frame_number(text.zfill(len("00:00:00:00")))
        except ValueError as error:
            raise self._error(where, str(error)) from None

    def frame_s(self, where: str, frame: int, video: str) -> float:
        """Return when a frame is shown, in seconds.

        Args:
            where: The place in the file, for messages.
            frame: The frame, counted from the first one.
            video: The video.

        Raises:
            LabelsError: The frame rate is unknown.
        """
        first_s, rate_hz, _ = self._clock(where, video)
        return first_s + float(frame / nearest_standard(Fraction(rate_hz)))

    def start(self, where: str, video: str) -> str | None:
        """Return the timecode of the first frame of a video; None if it has none.

        Raises:
            LabelsError: The frame rate is unknown.
        """
        return self._clock(where, video)[2]

    def timeline_start(self, where: str, codes: Sequence[str], video: str) -> int:
        """Return the frame at which the timeline of some timecodes begins.

        It is the start timecode of the footage. Without one, it is 01:00:00:00 if no timecode is
        before that, where timelines of editing programs begin, else 0.

        Args:
            where: The place in the file, for messages.
            codes: The timecodes.
            video: The video.

        Raises:
            LabelsError: A timecode cannot be read, or the frame rate is unknown.
        """
        start = self.start(where, video)
        if start is not None:
            return self.frame(where, start, video)
        mark = ";" if any(";" in code for code in codes) else ":"
        frame = self.frame(where, f"01:00:00{mark}00", video)
        return frame if all(self.frame(where, code, video) >= frame for code in codes) else 0

    def _clock(self, where: str, video: str) -> tuple[float, float, str | None]:
        if video not in self._clocks:
            self._clocks[video] = frame_clock(
                self._source, video, error=lambda message: self._error(where, message)
            )
        return self._clocks[video]

    def _error(self, where: str, message: str) -> LabelsError:
        return LabelsError(self._source.path, f"{where}: {message}")
