"""Stage `perceive`, the second branch: an MLLM looks at images and finds the harm they could serve."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, create_model

from construct.images import GivenImage
from construct.workshop import Workshop
from data.errors import RowFailed, unwritten
from data.llm.pictures import picture
from data.records import Pair, SubCategory
from data.rows import atomic
from data.taxonomy import load_taxonomy

STAGE = "perceive"
DIGITS = 8  # of an image's digest in its name


class PerceiveReply(BaseModel):
    """What the MLLM answers; `sub_category` is one of the taxonomy's (see `reply_type`)."""

    image_description: str = Field(min_length=1)
    sub_category: str
    harmful_query: str
    safety_reason: str
    usable: bool


@cache
def reply_type(names: tuple[str, ...]) -> type[PerceiveReply]:
    """The reply, its sub-category restricted to these names."""
    choice = Literal[names]  # type: ignore[valid-type]
    return create_model("PerceiveReply", __base__=PerceiveReply, sub_category=(choice, ...))


async def perceive_image(given: GivenImage, shop: Workshop) -> Pair:
    """A pair for the image; rejected when no harmful query goes with it. The original is kept in the run."""
    taxonomy = load_taxonomy()
    system, user = shop.prompt("perceive").fill(kind=given.kind, sub_categories=listed(taxonomy))
    names = tuple(entry.sub_category for entry in taxonomy)
    reply = await shop.viewer.ask(system, user, reply_type(names), pictures=[picture(Path(given.path))])
    pair = Pair(
        id=given.id,
        element=given.name,
        category=next(e.category for e in taxonomy if e.sub_category == reply.sub_category),
        sub_category=reply.sub_category,
        source=given.source,
        image_description=reply.image_description,
        harmful_query=reply.harmful_query,
        safety_reason=reply.safety_reason,
        image_path=keep_original(given, shop.folder),
    )
    if not (reply.usable and reply.harmful_query.strip()):
        return pair.reject(STAGE, "no_harm", "the model finds no harmful query that goes with the picture")
    return pair


def listed(taxonomy: Sequence[SubCategory]) -> str:
    """The sub-categories as the prompt quotes them."""
    return "\n".join(f"{entry.sub_category}: {entry.about}" for entry in taxonomy)


def keep_original(given: GivenImage, folder: Path) -> str:
    """Copy the image into the run as it is; returns its path there. Raises `UserError` for a full disk.

    The path tells the content, so that what was found of an image is not taken for one that came in its place.
    """
    relative = f"images/{given.id}-{given.sha256[:DIGITS]}{Path(given.path).suffix.lower()}"
    try:
        with open(given.path, "rb") as original, atomic(folder / relative) as copy:
            shutil.copyfileobj(original, copy)
    except OSError as error:
        raise unwritten(error) or RowFailed("unreadable_image", f"{given.path}: {error.strerror}") from error
    return relative
