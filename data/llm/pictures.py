"""Pictures in messages: known by their content, sent as data URLs, downscaled for the call when large."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import RowFailed
from data.quality import UnusablePicture, in_plain_colour, is_see_through, opened

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

LONGEST_SIDE = 1536  # pixels; larger pictures are downscaled for the call, the file stays as it is
LARGEST_BYTES = 4_000_000
ORIENTATION = 0x0112  # the EXIF tag; servers differ in whether they turn a picture by it
PLAIN = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}


@dataclass(frozen=True)
class Picture:
    """A picture file and the SHA-256 of its content, which stands for it in the cache key."""

    path: Path
    sha256: str


def picture(path: Path) -> Picture:
    """The picture in a file. Raises `RowFailed` when there is no such file."""
    try:
        with open(path, "rb") as file:
            return Picture(path, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise RowFailed("unreadable_image", f"{path}: {error.strerror}") from error


def data_url(shown: Picture, longest_side: int = LONGEST_SIDE) -> str:
    """The picture as a data URL, within the size limits. Raises `RowFailed` when it is none."""
    try:
        with opened(shown.path) as image:
            image.load()  # a picture cut short is no row worth paying for
            media_type = PLAIN.get(image.format or "")
            fits = max(image.size) <= longest_side and shown.path.stat().st_size <= LARGEST_BYTES
            as_seen = image.getexif().get(ORIENTATION, 1) == 1 and not is_see_through(image)
            if media_type and fits and as_seen:
                content = shown.path.read_bytes()
            else:
                media_type, content = "image/jpeg", _smaller(image, longest_side)
    except UnusablePicture as error:
        raise RowFailed("unreadable_image", f"{shown.path}: {error}") from error
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _smaller(image: PILImage, longest_side: int) -> bytes:
    """A JPEG of the picture, at most `longest_side` pixels long, transparency on white."""
    plain = in_plain_colour(image)
    plain.thumbnail((longest_side, longest_side))
    out = io.BytesIO()
    plain.save(out, "JPEG", quality=90)
    return out.getvalue()
