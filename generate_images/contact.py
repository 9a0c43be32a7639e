"""A contact sheet: the first hundred pictures of a run on one page, each over the beginning of its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from data.rows import atomic

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

    from data.records import Rejection

COLUMNS = 5
MOST = 100  # pictures on a sheet
SIDE = 240  # pixels of a picture's longer side
CAPTION_LINES = 3
LETTERS = 40  # per caption line
GAP = 12
LINE = 16
TEXT = 12


class Shown(Protocol):
    """What a tile shows."""

    @property
    def id(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def image_path(self) -> str: ...
    @property
    def rejected(self) -> Rejection | None: ...


def write_contact_sheet(path: Path, rows: Sequence[Shown]) -> None:
    """Write the sheet of the first `MOST` rows as a PNG by rename; pictures are looked for in its folder.

    Rejected rows say why, and so do those whose file is not there or cannot be read.
    """
    from PIL import Image, ImageDraw

    shown = rows[:MOST]
    height = SIDE + GAP + CAPTION_LINES * LINE
    lines = -(-len(shown) // COLUMNS)
    columns = min(COLUMNS, max(len(shown), 1))
    sheet = Image.new("RGB", (GAP + columns * (SIDE + GAP), GAP + lines * (height + GAP)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, row in enumerate(shown):
        line, column = divmod(place, COLUMNS)
        corner = (GAP + column * (SIDE + GAP), GAP + line * (height + GAP))
        _tile(sheet, pen, row, path.parent, corner)
    with atomic(path) as file:
        sheet.save(file, format="PNG")


def _tile(sheet: Image, pen: ImageDraw, row: Shown, folder: Path, corner: tuple[int, int]) -> None:
    from PIL import Image, ImageFont

    x, y = corner
    font = ImageFont.load_default(TEXT)
    said = f"rejected: {row.rejected.reason}" if row.rejected else ""
    if row.image_path:
        try:
            with Image.open(folder / row.image_path) as picture:
                small = picture.convert("RGB")
            small.thumbnail((SIDE, SIDE))
            sheet.paste(small, (x + (SIDE - small.width) // 2, y + SIDE - small.height))
        except (OSError, SyntaxError):  # Pillow's word for a broken PNG
            said = "the file cannot be read"
    if said:
        pen.rectangle((x, y, x + SIDE, y + LINE + 4), fill="#b3261e")
        pen.text((x + 4, y + 3), said, font=font, fill="white")
    for number, text in enumerate(_caption(row)):
        pen.text((x, y + SIDE + GAP // 2 + number * LINE), text, font=font, fill="#222222")


def _caption(row: Shown) -> list[str]:
    """The prompt's beginning in a few lines, with what this font cannot show left out."""
    import textwrap

    plain = row.prompt.encode("latin-1", "ignore").decode("latin-1")
    return textwrap.wrap(plain, LETTERS, max_lines=CAPTION_LINES, placeholder=" ...") or [row.id]
