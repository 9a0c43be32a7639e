"""Words in pictures, by OCR.

WordReader().read(Image.open("typed.png"))
-> Reading(text="How to fly a kite", share=0.31, plain=1.0)
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.decoding import decoded_ahead
from data.errors import RowFailed, missing_package
from data.records import Record

if TYPE_CHECKING:
    from PIL.Image import Image

CORES = min(os.cpu_count() or 1, 8)  # readers at once, at most
LEAST_CONFIDENCE = 0.6  # 0 to 1, by the reader's own account
MAX_PIXELS = 4_000_000  # larger pictures are downscaled first: small print stays legible
LOOKED_AT = 256  # pixels on the longer side, to see what lies outside of the lines
LONGEST = 4  # times the shorter side: the reader would enlarge a longer picture beyond all memory
MARGIN = 0.25  # of a line's height, around it: letters' edges are no background
LIKE = 24  # of 255: colours no farther from the background are background


class Reading(Record):
    """What can be read in a picture, and how much of the picture that is."""

    text: str  # in reading order; "" where there are no words
    share: float  # 0 to 1, of the picture's area: what the lines cover
    plain: float  # 0 to 1, of what lies outside of them: how much is one colour


def missing_reader() -> str | None:
    """The package that reading words needs and the environment lacks, if any."""
    return next((package for package in ("rapidocr", "onnxruntime") if find_spec(package) is None), None)


class WordReader:
    """RapidOCR with the models inside its wheel: no download.

    One thread each: several readers side by side read more than one that has all cores, and on a busy
    machine far more. A reader is one thread's own.
    """

    def __init__(self) -> None:
        try:
            from rapidocr import RapidOCR
        except ImportError as error:
            raise missing_package("rapidocr", "ocr") from error
        self.name = f"rapidocr {version('rapidocr')}"
        one_thread = {"EngineConfig.onnxruntime.intra_op_num_threads": 1}
        self._reader: Any = RapidOCR(params={"Global.log_level": "error", **one_thread})
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)

    def read(self, image: Image) -> Reading:
        """The words of an RGB picture; those the reader is unsure of do not count."""
        found: Any = self._reader(_padded(image))
        lines = zip(found.txts or (), found.scores or (), _boxes(found), strict=True)
        sure = [(text, box) for text, confidence, box in lines if confidence >= LEAST_CONFIDENCE]
        share, plain = measure([box for _, box in sure], image)
        return Reading(text=" ".join(text for text, _ in sure), share=share, plain=plain)


def _padded(image: Image) -> Image:
    """The picture with white below or beside it where it is very long."""
    width, height = (max(side, max(image.size) // LONGEST) for side in image.size)
    if (width, height) == image.size:
        return image
    from PIL import Image as images

    canvas = images.new("RGB", (width, height), "white")
    canvas.paste(image)
    return canvas


def _boxes(found: Any) -> list[NDArray[np.float32]]:
    return [] if found.boxes is None else list(found.boxes)


def measure(boxes: Sequence[NDArray[np.float32]], image: Image) -> tuple[float, float]:
    """(share of the picture that the lines cover, share of the rest that is one colour), 0 to 1.

    `boxes` are the lines' four corners, (4, 2) in pixels. The colour is the rest's median.
    """
    small = image.copy()
    small.thumbnail((LOOKED_AT, LOOKED_AT))
    pixels = np.asarray(small, np.int16)
    scale = np.array(small.size) / np.array(image.size)
    covered, near = (np.zeros(pixels.shape[:2], np.bool_) for _ in range(2))
    for box in boxes:
        low, high = box.min(axis=0) * scale, box.max(axis=0) * scale
        margin = MARGIN * (high[1] - low[1])
        covered[_area(low, high)] = True
        near[_area(low - margin, high + margin)] = True
    rest = pixels[~near]
    if not len(rest):
        return float(covered.mean()), 1.0
    away = np.abs(rest - np.median(rest, axis=0)).max(axis=1)
    return float(covered.mean()), float((away <= LIKE).mean())


def _area(low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[slice, slice]:
    left, top = np.floor(np.maximum(low, 0)).astype(int)
    right, bottom = np.ceil(np.maximum(high, 0)).astype(int)
    return slice(top, bottom), slice(left, right)


class WordReaders:
    """A `WordReader` per core, each loaded when it has something to read."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(CORES, thread_name_prefix="ocr")
        self._own = threading.local()

    def read(self, images: Sequence[Image]) -> list[Reading]:
        """What can be read in each picture, in order."""
        return list(self._pool.map(self._read, images))

    def _read(self, image: Image) -> Reading:
        if not hasattr(self._own, "reader"):
            self._own.reader = WordReader()
        reading: Reading = self._own.reader.read(image)
        return reading


def read_pictures(paths: Sequence[Path]) -> list[str]:
    """The words of each picture in reading order, empty where there are none or no picture."""
    readers = WordReaders()
    texts: list[str] = []
    pictures = decoded_ahead(paths, MAX_PIXELS)
    while batch := [image for _, image in islice(pictures, 2 * CORES)]:
        read = iter(readers.read([image for image in batch if not isinstance(image, RowFailed)]))
        texts += ["" if isinstance(image, RowFailed) else next(read).text for image in batch]
    return texts
