"""Picture files that are broken, odd or no pictures, through every door that opens one."""

from __future__ import annotations

import base64
import io
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.decoding import in_colour
from data.errors import RowFailed
from data.fingerprints import look_at_picture
from data.llm.pictures import data_url, picture
from data.local_model import open_picture
from data.pages.thumbnails import thumbnail
from eval.arms import NO_SIZE, _size
from tests.small_run import drawing


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def cut(kind: str) -> bytes:
    content = encoded(drawing(3), kind)
    return content[: len(content) * 2 // 3]


def bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes that says it has side x side pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def animated(kind: str) -> bytes:
    return encoded(drawing(1), kind, save_all=True, append_images=[drawing(2), drawing(3)])


def sixteen_bits() -> bytes:
    grey = np.asarray(drawing(5).convert("L"), np.uint16) * 257
    return encoded(Image.fromarray(grey), "PNG")


def misplaced_tiff() -> bytes:
    """A TIFF that gives the place of its pixels as a text."""
    content = bytearray(encoded(drawing(6), "TIFF"))
    place = content.index(struct.pack("<HH", 273, 4))  # strip offsets, as a number
    struct.pack_into("<H", content, place + 2, 2)
    return bytes(content)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    return encoded(drawing(6).crop((0, 0, 256, 128)), "JPEG", exif=exif.tobytes(), quality=95)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><image href="file:///etc/passwd"/></svg>'
HTML = b"<!doctype html><script>document.title='acted'</script>"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n(%pipe%touch acted) (w) file\nshowpage\n"
TORN_EXIF = b"Exif\0\0II*\0\x08"
XPM = b'/* XPM */\nstatic char *x[] = {"100 100 1 1", "a c #ff0000"};\n'
UNREADABLE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "cut PNG": ("a.png", lambda: cut("PNG")),
    "cut JPEG": ("a.jpg", lambda: cut("JPEG")),
    "cut WebP": ("a.webp", lambda: cut("WEBP")),
    "bomb that Pillow warns of": ("a.png", lambda: bomb(10_000)),
    "bomb that Pillow refuses": ("a.png", lambda: bomb(60_000)),
    "SVG named .png": ("a.png", lambda: SVG),
    "HTML named .png": ("a.png", lambda: HTML),
    "PostScript named .png": ("a.png", lambda: EPS),
    "XPM named .png": ("a.png", lambda: XPM),
    "PNG with torn EXIF": ("a.png", lambda: encoded(drawing(6), "PNG", exif=TORN_EXIF)),
    "WebP with torn EXIF": ("a.webp", lambda: encoded(drawing(6), "WEBP", exif=TORN_EXIF)),
    "TIFF with its pixels nowhere": ("a.tif", misplaced_tiff),
    "PNG of nothing but its magic": ("a.png", lambda: b"\x89PNG\r\n\x1a\n"),
    "empty file": ("a.png", lambda: b""),
    "noise": ("a.png", lambda: bytes(range(256)) * 40),
}
ODD: dict[str, tuple[str, Callable[[], bytes], str | None]] = {  # with the flaw that the gate finds
    "animated GIF": ("a.gif", lambda: animated("GIF"), "wrong_mode"),
    "animated WebP": ("a.webp", lambda: animated("WEBP"), "wrong_mode"),
    "animated PNG": ("a.png", lambda: animated("PNG"), "wrong_mode"),
    "CMYK": ("a.jpg", lambda: encoded(drawing(4).convert("CMYK"), "JPEG"), "wrong_mode"),
    "16 bits": ("a.png", sixteen_bits, "wrong_mode"),
    "turned by EXIF": ("a.jpg", turned, None),
    "JPEG named .png": ("a.png", lambda: encoded(drawing(7), "JPEG"), None),
    "one bit": ("a.png", lambda: encoded(drawing(8).convert("1"), "PNG"), None),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_is_no_whole_picture_is_refused_at_every_door_within_seconds(tmp_path: Path, what: str) -> None:
    name, make = UNREADABLE[what]
    path = tmp_path / name
    path.write_bytes(make())
    started = time.monotonic()
    flaw = look_at_picture(path).flaw
    assert flaw is not None and flaw.reason == "corrupt_image"
    assert thumbnail(path, 64) is None
    assert thumbnail(path.read_bytes(), 64) is None
    with pytest.raises(RowFailed, match="unreadable_image"):
        data_url(picture(path))
    with pytest.raises(RowFailed, match="unreadable_image"):
        open_picture(path, 1_000_000)
    with pytest.raises(RowFailed, match="unreadable_image"):
        in_colour(path, 1_000_000)
    assert max(_size(path)) <= max(*NO_SIZE, 256)  # no blank picture as large as a bomb claims to be
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("what", ODD)
def test_odd_pictures_are_seen_as_they_are_or_named_by_the_gate(tmp_path: Path, what: str) -> None:
    name, make, reason = ODD[what]
    path = tmp_path / name
    path.write_bytes(make())
    flaw = look_at_picture(path).flaw
    assert (flaw and flaw.reason) == reason
    assert (thumbnail(path, 64) or "").startswith("data:image/webp")
    seen = open_picture(path, 1_000_000)
    assert seen.mode == "RGB"
    assert np.asarray(seen).std() > 5  # not one flat colour: nothing was cut off
    kind, _, content = data_url(picture(path)).partition(";base64,")
    assert kind.startswith("data:image/")
    sent = Image.open(io.BytesIO(base64.b64decode(content)))
    assert sent.size == seen.size  # whoever ignores EXIF sees the picture upright too


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white_to_whoever_looks(tmp_path: Path, mode: str) -> None:
    hidden = Image.new("RGBA", (80, 80), (0, 0, 0, 0))
    hidden.paste((0, 0, 0, 255), (0, 0, 40, 80))
    hidden.convert(mode).save(tmp_path / "a.png")
    content = base64.b64decode(data_url(picture(tmp_path / "a.png")).partition(",")[2])
    small = base64.b64decode((thumbnail(tmp_path / "a.png", 64) or "").partition(",")[2])
    for seen in (
        open_picture(tmp_path / "a.png", 1_000_000),
        in_colour(tmp_path / "a.png", 1_000_000),
        *(Image.open(io.BytesIO(each)) for each in (content, small)),
    ):
        assert seen.mode == "RGB"
        grey = np.asarray(seen.convert("L"))
        assert grey[:, :24].max() < 16 and grey[:, -24:].min() > 239


def test_16_bit_grey_keeps_its_tones(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(sixteen_bits())
    plain = np.asarray(drawing(5).convert("L"), int)
    assert np.abs(np.asarray(open_picture(path, 1_000_000).convert("L"), int) - plain).max() <= 1
