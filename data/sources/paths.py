"""Where a row's image lies: inside the data folder, or nowhere, whatever a stranger's file says.

What stands in a row's image column, and what becomes of it:

    "imgs/0.png"                        <folder>/imgs/0.png
    "../../etc/passwd"                  None, "its image path leaves the data folder"
    {"bytes": b"...", "path": "0.png"}  <unpack_to>/9f86d081884c7d65.png
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from data.rows import atomic
from data.sources.columns import clean

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
MAGIC = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp",
         b"II*\0": ".tif", b"MM\0*": ".tif"}  # fmt: skip
BASE64_STARTS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk", "SUkqA", "TU0AK")  # the same, in base64
SHORTEST_BASE64 = 400  # characters: a shorter text is a path
LONGEST_PATH = 4096
UNKNOWN_FORM = "its image is neither a path nor embedded"
LONGEST_NAME = 255  # bytes, on every common file system


class ImageFolders(NamedTuple):
    """Where images may be looked for, and where embedded ones may be written; made by `image_folders`."""

    root: str  # nothing outside of it is ever returned
    folders: tuple[str, ...]  # what paths are relative to; the first that has the file wins
    unpack_to: Path | None


def image_folders(root: Path, folders: Iterable[Path], unpack_to: Path | None = None) -> ImageFolders:
    """Folders with all their links followed, so that what lies inside can be told by the path.

    They are texts from here on: for a million rows `Path` would take minutes.
    """
    real = tuple(os.path.realpath(folder) for folder in folders)
    return ImageFolders(os.path.realpath(root), real, unpack_to)


class FoundImage(NamedTuple):
    """An image's file if it has one, what tells it from other images, and what is wrong if anything is."""

    path: str | None
    key: str
    problem: str | None = None


def find_image(value: object, where: ImageFolders) -> FoundImage:
    """The image that a cell stands for: a path, a list of paths, embedded bytes or base64 text."""
    if isinstance(value, (list, tuple)):
        filled = [each for each in value if each is not None and each != ""]
        if not filled:
            return FoundImage(None, "")
        first = FoundImage(None, "", UNKNOWN_FORM) if _nested(filled[0]) else find_image(filled[0], where)
        several = "it has several images: the first is used" if len(filled) > 1 else None
        return first._replace(problem=first.problem or several)
    if isinstance(value, dict):
        if value and not {"bytes", "path"} & value.keys():
            return FoundImage(None, "", UNKNOWN_FORM)
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        value = _from_base64(value) or value.strip()
    if isinstance(value, (bytes, bytearray)):
        return _unpack(bytes(value), where.unpack_to)
    if value is None or value == "" or value != value:  # NaN is what an empty cell may become
        return FoundImage(None, "")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # what a table makes of 12 where another row has none
    return _find_file(str(value), where)


def _nested(value: object) -> bool:
    return isinstance(value, (list, tuple))


def _find_file(name: str, where: ImageFolders) -> FoundImage:
    """The file of that name under one of the folders, if it truly lies inside the root."""
    refused = _refuse(name)
    if refused:
        return FoundImage(None, clean(name[:LONGEST_NAME]), refused)
    name = name.replace("\\", "/")
    outside = False
    for folder in where.folders:
        for path in _spellings(name if name.startswith("/") else f"{folder}/{name}"):
            if not (_under(os.path.normpath(path), where.root) or _under(os.path.realpath(path), where.root)):
                outside = True
            elif _is_file(path):
                found = os.path.realpath(path)  # follows links, so that none leads out
                if _under(found, where.root) and found == clean(found):
                    return FoundImage(found, found[len(where.root.rstrip("/")) + 1 :])
                outside = outside or not _under(found, where.root)
    if outside:
        return FoundImage(None, name, "its image path leaves the data folder")
    missing = clean(os.path.normpath(name if name.startswith("/") else f"{where.folders[0]}/{name}"))
    return FoundImage(None, missing[len(where.root.rstrip("/")) + 1 :], "its image file is not there")


def lies_inside(path: Path, folder: Path) -> bool:
    """Whether the path, once all its links are followed, is in the folder."""
    return _under(os.path.realpath(path), os.path.realpath(folder))


def trusted_root(folder: Path) -> Path:
    """The folder itself; of a snapshot in the Hub's cache the download that the snapshot's links lead to."""
    for snapshot in (folder.absolute(), *folder.absolute().parents):
        download = snapshot.parent.parent
        if snapshot.parent.name == "snapshots" and download.name.startswith("datasets--"):
            return download
    return folder


def _under(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:  # it is not there, or no file system could have a path like this
        return False


def _refuse(name: str) -> str | None:
    """Why this cannot be the path of a file at all, if it cannot."""
    if "\0" in name:
        return "its image path holds a NUL character"
    parts = name.encode(errors="replace").split(b"/")
    if len(name) > LONGEST_PATH or any(len(part) > LONGEST_NAME for part in parts):
        return "its image path is too long"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name):
        return "its image is an address, not a file"
    if name != clean(name):
        return "its image path is not valid text"
    return None


def _spellings(path: str) -> tuple[str, ...]:
    """The path itself; of one that does not end as an image does, also with each such ending."""
    if path.lower().endswith(SUFFIXES):
        return (path,)
    return (path, *(path + suffix for suffix in SUFFIXES))


def _from_base64(text: str) -> bytes | None:
    """The bytes of a data URI or of a long base64 text that starts as an image does."""
    text = text.lstrip()
    if text.startswith("data:image/"):
        text = text.partition(",")[2]
    elif len(text) < SHORTEST_BASE64 or not text.startswith(BASE64_STARTS):
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _unpack(content: bytes, folder: Path | None) -> FoundImage:
    """Write an embedded image under a name made of its content, where a folder for that is given."""
    key = hashlib.sha256(content).hexdigest()[:16]
    suffix = next((suffix for magic, suffix in MAGIC.items() if content.startswith(magic)), None)
    if suffix is None:
        return FoundImage(None, key, "its embedded image is of no known kind")
    if folder is None:
        return FoundImage(None, key, "its embedded image was not written to a file")
    path = folder.absolute() / f"{key}{suffix}"
    if not path.exists():
        with atomic(path) as file:
            file.write(content)
    return FoundImage(str(path), key)
