"""Which pictures are none, and what a written picture says of itself."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.errors import UserError
from data.quality import flaw_of, in_plain_colour
from data.records import Attempt, Drawing
from generate_images.writer import Writer, check_space, is_drawn, read_drawing, save_picture

DRAWING = Drawing(
    generator="diffusers:model", prompt="Ein Café — 猫 & <b>“quotes”</b>", seed=4_000_000_000,
    revision="folder-0123456789ab", steps=28, guidance=3.5, width=64, height=64, note="cut: x",
)  # fmt: skip


def picture(make: Callable[[np.random.Generator], Any]) -> Image.Image:
    values = make(np.random.default_rng(0))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def flat(level: float) -> Callable[[np.random.Generator], Any]:
    return lambda _: np.full((96, 96, 3), level)


def noisy(level: float, spread: float) -> Callable[[np.random.Generator], Any]:
    return lambda random: random.normal(level, spread, (96, 96, 3))


def with_lines(_: np.random.Generator) -> Any:
    page = np.full((96, 96, 3), 255.0)
    page[40:44, 10:60] = 0
    return page


def night(random: np.random.Generator) -> Any:
    scene = random.normal(6, 2, (96, 96, 3))
    scene[30:50, 30:50] = 90
    return scene


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (flat(0), "black"),
        (noisy(2, 1), "black"),
        (flat(255), "blank"),
        (flat(127), "blank"),
        (noisy(127, 1), "near_constant"),
        (noisy(127, 40), None),
        (with_lines, None),
        (night, None),
    ],
)
def test_black_blank_and_nearly_constant_pictures_are_told_from_dark_and_bare_ones(
    make: Callable[[np.random.Generator], Any], reason: str | None
) -> None:
    flaw = flaw_of(picture(make))
    assert (flaw and flaw.reason) == reason


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_a_picture_carries_its_drawing_and_says_it_is_synthetic(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    save_picture(picture(noisy(127, 40)), path, DRAWING)
    assert read_drawing(path) == DRAWING
    content = path.read_bytes()
    assert b"synthetic image" in content
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in content
    if suffix == ".png":
        with Image.open(path) as image:
            assert image.info["Seed"] == "4000000000" and image.info["Description"] == DRAWING.prompt


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_of_grey_keep_their_tones_in_either_byte_order(order: str) -> None:
    tones = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(order)
    seen = np.asarray(in_plain_colour(Image.fromarray(tones)))
    assert seen.min() == 0 and seen.max() == 255 and 120 < seen.mean() < 135


def test_a_file_counts_as_drawn_only_if_it_was_drawn_just_so(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert not is_drawn(path, DRAWING)
    save_picture(picture(noisy(127, 40)), path, DRAWING)
    assert is_drawn(path, DRAWING)
    assert is_drawn(path, DRAWING.replace(attempts=(Attempt(prompt="p", seed=1),)))
    for change in ({"seed": 1}, {"prompt": "p"}, {"revision": "r"}, {"steps": 4}, {"width": 128}):
        assert not is_drawn(path, DRAWING.replace(**change))
    path.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    assert not is_drawn(path, DRAWING)
    picture(noisy(127, 40)).save(path)
    assert not is_drawn(path, DRAWING)


def test_the_writer_writes_good_pictures_and_answers_with_the_flaw_of_bad_ones(tmp_path: Path) -> None:
    with Writer(threads=2) as writer:
        good = [
            writer.submit(picture(noisy(127, 40)), tmp_path / f"{n}.png", DRAWING.replace(seed=n))
            for n in range(40)
        ]
        black = writer.submit(picture(flat(0)), tmp_path / "black.png", DRAWING)
    assert [future.result() for future in good] == [None] * 40
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{n}.png" for n in range(40))
    flaw = black.result()
    assert flaw is not None and flaw.reason == "black"


def test_a_full_disk_stops_the_drawing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("generate_images.writer.save_picture", full)
    with Writer(threads=1) as writer:
        first = writer.submit(picture(noisy(127, 40)), tmp_path / "a.png", DRAWING)
        with pytest.raises(UserError, match=r"is full: make room .* finished so far are kept"):
            first.result()
        with pytest.raises(UserError, match="is full"):
            writer.submit(picture(noisy(127, 40)), tmp_path / "b.png", DRAWING)


def test_pictures_that_cannot_fit_on_the_disk_are_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    large = [DRAWING.replace(width=1024, height=1024)]
    check_space(tmp_path / "not" / "yet", large * 100)
    with pytest.raises(
        UserError, match=r"Not enough disk at .*: 2400 pictures need about 4\.5 GB and 1\.0 GB"
    ):
        check_space(tmp_path, large * 2400)
