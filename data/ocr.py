"""Words in pictures, by OCR."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.errors import missing_package

LEAST_CONFIDENCE = 0.6  # 0 to 1, by the reader's own account


def read_pictures(paths: Sequence[Path]) -> list[str]:
    """The words of each picture in reading order, empty where there are none."""
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise missing_package("rapidocr", "ocr") from error
    reader = RapidOCR()
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    texts = []
    for path in paths:
        lines: Any = reader(str(path))
        found = zip(lines.txts or (), lines.scores or (), strict=True)
        texts.append(" ".join(text for text, confidence in found if confidence >= LEAST_CONFIDENCE))
    return texts
