"""Stage `elements`: an LLM lists the risky objects, acts and places of one sub-category, batch by batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, BaseModel, create_model

from construct.profile import ElementsSection
from construct.workshop import Workshop
from data.embedders import Embedder, Vectors
from data.errors import PERMANENT, RowFailed
from data.records import ElementList, Pair, Repair, SubCategory, pair_id

STAGE = "elements"
NONE_YET = "none yet"


class ElementsReply(BaseModel):
    """What the LLM answers."""

    elements: list[str]


def _some(elements: list[str]) -> list[str]:
    if not any(element.strip() for element in elements):
        raise ValueError("name at least one")
    return elements


# A first batch without an element is an invalid reply, which goes back. Under one name and schema with the
# other, so that the server is asked the same.
FirstReply = create_model(
    "ElementsReply",
    __base__=ElementsReply,
    __doc__=ElementsReply.__doc__,
    elements=(Annotated[list[str], AfterValidator(_some)], ...),
)


async def list_elements(sub_category: SubCategory, shop: Workshop) -> ElementList:
    """The elements of a sub-category, no two alike, at most as many as the profile asks for.

    Each batch is told what was found before; a batch that brings too little that is new is the last, and so
    is one that fails for good: what was found and paid for before it stays, the failure as its `repaired`.
    Raises `RowFailed` when not even one element was found, or when asking again may help.
    """
    wanted = shop.profile.elements
    found: list[str] = []
    ended: Repair | None = None
    while len(found) < wanted.per_sub_category:
        count = min(wanted.batch, wanted.per_sub_category - len(found))
        try:
            proposed = await _ask_for_more(sub_category, found, count, shop)
        except RowFailed as failed:
            if not found or failed.reason not in PERMANENT:
                raise
            ended = Repair(stage=STAGE, reason=failed.reason)
            break
        new = await asyncio.to_thread(distinct, proposed, found, shop.embedder, wanted.near_duplicate)
        found += new[:count]
        if not new or len(new) < wanted.least_new * count:  # the same question would have the same answer
            break
    return ElementList(
        id=sub_category.id,
        category=sub_category.category,
        sub_category=sub_category.sub_category,
        elements=tuple(found),
        repaired=ended,
    )


async def _ask_for_more(
    sub_category: SubCategory, found: Sequence[str], count: int, shop: Workshop
) -> list[str]:
    system, user = shop.prompt("elements").fill(
        category=sub_category.category,
        sub_category=sub_category.sub_category,
        about=sub_category.about,
        count=str(count),
        found="\n".join(found) or NONE_YET,
    )
    reply = await shop.author.ask(system, user, ElementsReply if found else FirstReply)
    tidy = dict.fromkeys(" ".join(element.split()) for element in reply.elements)
    return [element for element in tidy if element]


def distinct(
    proposed: Sequence[str], found: Sequence[str], embedder: Embedder, near_duplicate: float
) -> list[str]:
    """The proposed elements that are not nearly the same (by cosine) as one found or proposed before."""
    vectors = embedder.embed([*found, *proposed])
    kept, new = vectors[: len(found)], []
    for element, vector in zip(proposed, vectors[len(found) :], strict=True):
        if _nearest(kept, vector) < near_duplicate:
            new.append(element)
            kept = np.vstack([kept, vector])
    return new


def _nearest(kept: Vectors, vector: Vectors) -> float:
    return float((kept @ vector).max()) if len(kept) else -1.0


def calls_per_sub_category(wanted: ElementsSection) -> int:
    """How many batches it takes when each brings what it is asked for."""
    return -(-wanted.per_sub_category // wanted.batch)


def pairs_of(lists: Iterable[ElementList]) -> Iterator[Pair]:
    """One pair to be per element, taking the sub-categories in turn: any first few span them all."""
    columns = [_column(found) for found in lists]
    return (pair for pair in chain.from_iterable(zip_longest(*columns)) if pair is not None)


def _column(found: ElementList) -> Iterator[Pair]:
    for element in found.elements:
        yield Pair(
            id=pair_id("generation", found.sub_category, element),
            element=element,
            category=found.category,
            sub_category=found.sub_category,
        )
