"""How many windows run at once follows from the memory that there is, not from what is free."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import brightness_model, small_3d_model, write_levels

from touchline.models.engines import memory
from touchline.models.engines.memory import batch_that_fits, is_out_of_memory, memory_bytes
from touchline.pipeline.detection.batch import detect_all
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.scoring.score import Scorer

CPU = torch.device("cpu")


def machine_of(monkeypatch: pytest.MonkeyPatch, num_bytes: int) -> None:
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": num_bytes, "SC_PAGE_SIZE": 1}.get)
    monkeypatch.setattr(memory, "CGROUPS", Path("/nowhere"))


def test_windows_take_a_quarter_of_the_memory_at_most(monkeypatch):
    backbone = small_3d_model().backbone
    each = memory._window_bytes(backbone, CPU, torch.float32)
    # Eight frames of 32 px at least; MotionNet's first layer makes 16 channels of them.
    assert each > 8 * 32 * 32 * (3 * 13 + 16)
    for windows, batch in ((100, 8), (8, 8), (7, 4), (4, 4), (3, 2), (1, 1), (0, 1)):
        machine_of(monkeypatch, int(4 * each * (windows + 0.1)))
        assert batch_that_fits(backbone, CPU, torch.float32) == batch


def test_a_window_of_more_pictures_takes_more(monkeypatch):
    small = small_3d_model().backbone
    large = small_3d_model().backbone
    large.spec = replace(large.spec, size_px=64)
    ratio = memory._window_bytes(large, CPU, torch.float32) / memory._window_bytes(
        small, CPU, torch.float32
    )
    assert ratio == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_the_limit_of_a_container_counts(tmp_path, monkeypatch, name):
    machine_of(monkeypatch, 1000)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    assert memory_bytes(CPU) == 1000
    limit = tmp_path / name
    limit.parent.mkdir(exist_ok=True)
    for text, expected in (("max\n", 1000), ("600\n", 600), ("9223372036854771712\n", 1000)):
        limit.write_text(text)
        assert memory_bytes(CPU) == expected


def test_what_pytorch_says_without_memory_is_understood():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_batch_size_that_was_asked_for_is_not_changed(monkeypatch):
    machine_of(monkeypatch, 1)
    assert Scorer(small_3d_model(), device="cpu", batch_size=None).batch_size == 1
    assert Scorer(small_3d_model(), device="cpu", batch_size=8).batch_size == 8


def test_the_result_names_what_was_used_and_a_second_run_skips_it(tmp_path):
    footage = write_levels(tmp_path / "a.mp4", [20] * 40 + [235] * 40)

    def run(batch_size: int | None) -> tuple[bool, int | None]:
        options = DetectOptions(device="cpu", precision="float32", batch_size=batch_size)
        begun: list[Path] = []
        (found,) = detect_all(
            [footage], brightness_model(), tmp_path / "out", options, skip_done=True,
            on_start=begun.append,
        )  # fmt: skip
        assert found.options is not None
        return bool(begun), found.options.batch_size

    assert run(None) == (True, 8)
    assert run(None) == (False, 8)
    assert run(8) == (False, 8)
    assert run(4) == (True, 4)
    # Whatever memory holds is good enough, also what was asked for then.
    assert run(None) == (False, 4)
