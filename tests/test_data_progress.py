"""What a person reads of a stage where there is no terminal."""

from __future__ import annotations

import pytest

from data.progress import StageProgress


def test_a_stage_that_is_stopped_says_so_and_promises_no_end(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), StageProgress("draw", 100, 0) as progress:
        progress.advance(3)
        raise KeyboardInterrupt
    said = capfd.readouterr().err
    assert "3/100" in said and "stopped" in said and "ETA" not in said


def test_a_stage_that_ends_says_how_long_it_took(capfd: pytest.CaptureFixture[str]) -> None:
    with StageProgress("draw", 5, 2) as progress:
        progress.advance(3)
    said = capfd.readouterr().err
    assert "5/5" in said and "took" in said and "stopped" not in said
