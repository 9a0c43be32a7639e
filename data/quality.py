"""Pictures that cannot be used: missing, corrupt, tiny, of a wrong mode, or with nothing to see."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

LEAST_SIDE = 64  # pixels; below that nobody can say what a picture shows
MOST_PIXELS = 80_000_000  # more may be a decompression bomb
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # Pillow hands some others to other programs
# What Pillow is known to raise on files that are not what they say, in pixels and in EXIF.
BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError,
          RuntimeError, struct.error, zlib.error)  # fmt: skip
MODES = {"RGB", "L", "P", "1", "RGBA", "LA"}  # what every loader turns into RGB in the same way
BLACK = 8.0  # 99.9 % of a black picture's values lie below this, of 255
LEAST_SPREAD = 3.0  # standard deviation of the grey values, of 255; a plain sky at dusk has 10
LOOKED_AT = 256  # pixels on the longer side: enough to see that nothing is there


class Flaw(NamedTuple):
    """Why a picture cannot be used: a short code that funnels count by, and a sentence."""

    reason: str
    detail: str
    another_seed: bool = True  # whether drawing it with another one may help


class UnusablePicture(Exception):
    """Raised with the `Flaw` that makes a file no usable picture."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.detail)
        self.flaw = flaw


def open_picture(path: Path) -> Image:
    """The file decoded to its end, upright, in RGB. Raises `UnusablePicture`."""
    from PIL import ImageOps

    with opened(path) as image:
        flaw = _flaw_of_header(image)
        if flaw is None:
            image.load()
            flaw = _see_through(image)
        if flaw is not None:
            raise UnusablePicture(flaw)
        return ImageOps.exif_transpose(image).convert("RGB")


@contextmanager
def opened(file: Path | IO[bytes]) -> Iterator[Image]:
    """A picture file, its pixels not yet decoded. Raises `UnusablePicture`, also if the block finds it broken."""
    from PIL import Image

    try:
        with quiet_about_size(), Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are more than a picture has")
            yield image
    except FileNotFoundError as error:
        raise UnusablePicture(Flaw("missing_image", "the picture's file is missing")) from error
    except (*BROKEN, Image.DecompressionBombError) as error:
        detail = f"the file is not a whole picture ({type(error).__name__})"
        raise UnusablePicture(Flaw("corrupt_image", detail)) from error


@contextmanager
def quiet_about_size() -> Iterator[None]:
    """Pillow's warning of large pictures stays off the terminal: `opened` is stricter."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def in_plain_colour(image: Image) -> Image:
    """The picture upright in RGB, transparency on white, 16-bit grey with its tones."""
    from PIL import Image as images
    from PIL import ImageOps

    upright = _eight_bits(ImageOps.exif_transpose(image))
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    clear = upright.convert("RGBA")
    canvas = images.new("RGB", clear.size, "white")
    canvas.paste(clear, mask=clear.getchannel("A"))
    return canvas


def within(image: Image, max_pixels: int) -> Image:
    """The picture, downscaled if it has more pixels."""
    scale = (max_pixels / (image.width * image.height)) ** 0.5
    if scale >= 1:
        return image
    return image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))


def _eight_bits(image: Image) -> Image:
    """The picture with 16-bit grey scaled to 8 bits; a plain conversion would cut all but the darkest off."""
    if not image.mode.startswith("I"):
        return image
    return image.convert("I").point(lambda value: value / 256).convert("L")  # "I;16B" knows no `point`


def _flaw_of_header(image: Image) -> Flaw | None:
    """What is wrong before anything is decoded."""
    if min(image.size) < LEAST_SIDE:
        return Flaw("tiny_image", f"{image.width} x {image.height} pixels")
    if image.mode not in MODES:
        return Flaw("wrong_mode", f"mode {image.mode} looks different in every program")
    if getattr(image, "n_frames", 1) > 1:
        return Flaw("wrong_mode", "the picture moves: models would see one frame of it")
    return None


def _see_through(image: Image) -> Flaw | None:
    """Transparency: what lies behind it depends on who looks."""
    return Flaw("wrong_mode", "parts of the picture are transparent") if is_see_through(image) else None


def is_see_through(image: Image) -> bool:
    """Whether any part of a picture is transparent; some have the channel and make no use of it."""
    if not image.has_transparency_data:
        return False
    return bool(np.asarray(image.convert("RGBA").getchannel("A")).min() < 255)


def flaw_of(image: Image) -> Flaw | None:
    """What makes a decoded picture unusable, or None."""
    small = image.convert("RGB")
    small.thumbnail((LOOKED_AT, LOOKED_AT))
    return flaw_of_pixels(np.asarray(small))


def flaw_of_pixels(pixels: NDArray[np.uint8]) -> Flaw | None:
    """The same for an (h, w, 3) array of values from 0 to 255."""
    grey = pixels.astype(np.float32).mean(axis=2)
    if float(np.quantile(grey, 0.999)) < BLACK:
        return Flaw("black", "the picture is black")
    spread = float(pixels.astype(np.float32).std(axis=(0, 1)).max())
    if spread == 0.0:
        return Flaw("blank", "the picture is one single colour")
    if spread < LEAST_SPREAD:
        return Flaw("near_constant", f"the picture is nearly one colour (spread {spread:.1f} of 255)")
    return None
