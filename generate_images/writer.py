"""Pictures to files: checked, encoded and written in worker threads while the next batch is drawn.

Each file carries its `Drawing`, and a label that says it is synthetic: in a PNG the text chunks
Source, Software, Description, Seed, Drawing (JSON) and XMP; in a WebP the EXIF description and XMP.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import BoundedSemaphore
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pydantic import ValidationError

from data.errors import UserError
from data.quality import Flaw, flaw_of
from data.records import Drawing
from data.rows import atomic

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.PngImagePlugin import PngInfo

THREADS = min(8, os.cpu_count() or 1)
WAITING = 4 * THREADS  # pictures in memory; then drawing waits for writing
WEBP_QUALITY = 90
BYTES_PER_PIXEL = 1.8  # of a PNG of a photograph, rounded up
DESCRIPTION = 0x010E  # the EXIF tag
SYNTHETIC = "synthetic image"
# The International Press Telecommunications Council's term, which platforms read; for pictures that a
# program composes without a trained model the term is the other one.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/{}"
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="{}"/></rdf:RDF></x:xmpmeta>'
)


class Writer:
    """Worker threads that write pictures; Pillow's encoders run beside each other and beside the drawing."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="writer")
        self._room = BoundedSemaphore(WAITING)
        self._error: OSError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self._pool.shutdown(wait=True)

    def submit(self, image: Image, path: Path, drawing: Drawing) -> Future[Flaw | None]:
        """Have a picture checked and, if nothing is wrong with it, written; the flaw otherwise.

        Raises `UserError` when an earlier one could not be written: no use in drawing on.
        """
        if self._error is not None:
            raise unwritten(path, self._error)
        self._room.acquire()
        return self._pool.submit(self._write, image, path, drawing)

    def _write(self, image: Image, path: Path, drawing: Drawing) -> Flaw | None:
        try:
            flaw = flaw_of(image)
            if flaw is None:
                save_picture(image, path, drawing)
            return flaw
        except OSError as error:
            self._error = error
            raise unwritten(path, error) from error
        finally:
            self._room.release()


def unwritten(path: Path, error: OSError) -> UserError:
    """One sentence for a picture that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"The disk of {path.parent} is full: make room and run the same command again; "
            "the pictures finished so far are kept."
        )
    return UserError(f"Cannot write to {path.parent}: {error.strerror or error}.")


def check_space(folder: Path, drawings: Sequence[Drawing]) -> None:
    """Raise `UserError` when the disk cannot hold these pictures."""
    pixels = sum((drawing.width or 512) * (drawing.height or 512) for drawing in drawings)
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    needed, free = int(pixels * BYTES_PER_PIXEL), shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"Not enough disk at {folder}: {len(drawings)} pictures need about {needed / 1e9:.1f} GB "
            f"and {free / 1e9:.1f} GB are free; make room, or draw fewer with --limit."
        )


def save_picture(image: Image, path: Path, drawing: Drawing) -> None:
    """Write a PNG or, by its suffix, a WebP; it appears by rename."""
    trained = drawing.generator != "sketch"
    kind = "trainedAlgorithmicMedia" if trained else "algorithmicMedia"
    xmp = XMP.format(SOURCE_TYPE.format(kind))
    with atomic(path) as file:
        if path.suffix == ".webp":
            exif = image.getexif()
            exif[DESCRIPTION] = _json(drawing)
            image.save(file, format="WEBP", quality=WEBP_QUALITY, exif=exif, xmp=xmp.encode())
        else:
            image.save(file, format="PNG", pnginfo=_chunks(drawing, xmp))


def _chunks(drawing: Drawing, xmp: str) -> PngInfo:
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_text("Source", SYNTHETIC)
    chunks.add_text("Software", drawing.generator)
    chunks.add_itxt("Description", drawing.prompt)
    chunks.add_text("Seed", str(drawing.seed))
    chunks.add_itxt("Drawing", _json(drawing))
    chunks.add_itxt("XML:com.adobe.xmp", xmp)
    return chunks


def _json(drawing: Drawing) -> str:
    """The drawing without its attempts: a picture tells of itself only."""
    values = drawing.model_dump(mode="json", exclude_defaults=True, exclude={"attempts"})
    return json.dumps({"source": SYNTHETIC} | values)  # ASCII: EXIF knows no other


def read_drawing(path: Path) -> Drawing | None:
    """How the picture in a file was drawn, by its own account; None where there is none such."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            text = image.getexif().get(DESCRIPTION) if path.suffix == ".webp" else image.info.get("Drawing")
        values = json.loads(text or "null")
        values.pop("source", None)
        return Drawing.model_validate(values)
    except (OSError, UnidentifiedImageError, ValueError, AttributeError, ValidationError):
        return None


def is_drawn(path: Path, drawing: Drawing) -> bool:
    """Whether the file holds just this drawing: a resumed run draws nothing twice."""
    return path.exists() and read_drawing(path) == drawing.replace(attempts=())
