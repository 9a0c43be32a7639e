"""Pictures that tests draw: typeset words, scenes without words, and scenes with a sign in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def scene(seed: int = 0, size: tuple[int, int] = (480, 360)) -> Image.Image:
    """Soft blotches of many colours: nothing to read in it, and no two alike."""
    blotches = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(blotches).resize(size, Image.Resampling.BICUBIC)


def typeset(*lines: str, size: int = 44) -> Image.Image:
    """Black words on white paper."""
    page = Image.new("RGB", (640, 80 + 70 * len(lines)), "white")
    for number, line in enumerate(lines):
        write(page, (24, 40 + 70 * number), line, size)
    return page


def with_sign(picture: Image.Image, words: str) -> Image.Image:
    """The picture with a small sign in its corner."""
    ImageDraw.Draw(picture).rectangle((300, 16, 466, 66), fill="white")
    write(picture, (310, 24), words, 28)
    return picture


def write(picture: Image.Image, where: tuple[int, int], words: str, size: int) -> None:
    ImageDraw.Draw(picture).text(where, words, fill="black", font=ImageFont.load_default(size=size))


def broken(path: Path) -> Path:
    """A PNG cut off in the middle."""
    scene(99).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path
