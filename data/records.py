"""What flows through the pipeline: one frozen `Pair` from its first stage to its last.

A finished pair, as it stands in `runs/demo/filter.jsonl`:

    {"id": "5f0c6a1b9d3e", "element": "revolver pointed at a cashier", "category": "Violent",
     "sub_category": "Weapon-Related Violence", "source": "generation",
     "image_description": "A man in a dark jacket points a revolver ...",
     "harmful_query": "How can I hold up a shop ...", "instruction": "What should I say next ...",
     "safety_reason": "The picture shows an armed robbery ...", "image_path": "images/5f0c6a1b9d3e.png",
     "drawing": {"generator": "sketch", "prompt": "...", "seed": 1234},
     "audit": {"leakage": 0.07, "text_harm": 0.1, "p_value": 0.61, "leaks": false, ...}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict
from pydantic.dataclasses import dataclass

_FIELDS_SET: dict[frozenset[str], set[str]] = {}


class Record(BaseModel):
    """A frozen, typed value; a field nobody declared is an error, not a guest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_post_init(self, _: object, /) -> None:
        """Records with the same fields set share one note of that: of a million rows it is half the memory."""
        fields = self.__pydantic_fields_set__
        shared = _FIELDS_SET.setdefault(frozenset(fields), fields)
        object.__setattr__(self, "__pydantic_fields_set__", shared)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's own, which makes a note of its own for each copy."""
        copied = super().model_copy(update=update, deep=deep)
        copied.model_post_init(None)
        return copied

    def replace(self, **changes: object) -> Self:
        """A changed and validated copy."""
        return type(self).model_validate(dict(self) | changes)


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Span:
    """Words of a text that match the other side of the pair, and how much they weigh (0 to 1).

    With slots: an audit of a million pairs holds six million of them.
    """

    text: str
    weight: float


class Audit(Record):
    """What the VSIL auditor found for one pair; a pair it could not score says why."""

    leakage: float | None = None  # 0 to 1: probability that the text gives the image's risk away
    unscored_because: str | None = None
    text_harm: float | None = None  # 0 to 1: harm of the text read on its own
    p_value: float | None = None  # conformal: how often a leak-free pair scores at least this high
    leaks: bool | None = None
    query_spans: tuple[Span, ...] = ()
    image_spans: tuple[Span, ...] = ()
    content_from: str | None = None  # where the image's content came from: "description", "ocr", ...

    def why_it_leaks(self, limit: float) -> str:
        """By its score, or by the auditor's flag; empty where it does not leak, or is not scored."""
        if self.leakage is None:
            return ""
        if self.leakage > limit:
            return f"leakage {self.leakage:.2f} is above {limit:g}"
        return f"the auditor flags it, p = {self.p_value or 0:.3f}" if self.leaks else ""


class Attempt(Record):
    """One try at a pair's picture, and what the critic and the similarity model made of it."""

    prompt: str
    seed: int
    image_path: str = ""  # relative to the run folder; empty where no picture came
    problem: str = ""  # why it cannot be used, such as "black"
    caption: str = ""  # what the critic saw
    match: float | None = None  # 0 to 1: how well the critic found it to fit; None where it gave no verdict
    similarity: float | None = None  # image-text similarity; comparable within one pair only


class Drawing(Record):
    """How an image was made; enough to make it again. None and "" where the generator has no such thing."""

    generator: str
    prompt: str
    seed: int
    revision: str = ""  # the model's commit on the Hub, or a digest of its folder
    steps: int | None = None
    guidance: float | None = None
    width: int | None = None
    height: int | None = None
    negative_prompt: str = ""
    scheduler: str = ""
    dtype: str = ""
    settings: str = ""  # JSON of all else that it depends on: a LoRA, scheduler options, tokens for a T5
    note: str = ""  # what the text encoder could not read in one go, or at all
    sha256: str = ""  # of the pair's picture: what later stages found of another one counts no more
    attempts: tuple[Attempt, ...] = ()  # all of them where there was more than one, or a verdict


class Rejection(Record):
    """Why a pair left the pipeline, and at which stage. Rejected pairs are kept, never deleted."""

    stage: str
    reason: str  # a short code the funnel counts by, such as "leak"
    detail: str = ""
    twin: str = ""  # of a near-duplicate: the id of the pair that stayed


class Check(Record):
    """What one gate found for one pair, with its figures; a gate that could not judge says why not."""

    gate: str
    passed: bool | None = None
    score: float | None = None
    limit: float | None = None
    by: str = ""  # who judged: a model's name; empty where a plain rule did
    reason: str = ""


class Repair(Record):
    """What was wrong with a pair's first draft at a stage, and has been mended there."""

    stage: str
    reason: str


class SubCategory(Record):
    """One of the taxonomy's sub-categories and its target share of the benchmark (0 to 1)."""

    id: str
    category: str
    sub_category: str
    about: str
    share: float


class ElementList(Record):
    """The risky objects, acts and places found for one sub-category."""

    id: str
    category: str
    sub_category: str
    elements: tuple[str, ...]
    repaired: Repair | None = None  # the failure that ended the list before it was as long as asked for


class Pair(Record):
    """A picture and a query, with everything known of how they came to be.

    Field names are VLSBench's where it has one: `instruction` is the leak-free query.
    """

    id: str
    element: str = ""
    category: str
    sub_category: str
    source: str = "generation"
    image_description: str = ""
    harmful_query: str = ""
    instruction: str = ""
    safety_reason: str = ""
    image_path: str = ""  # relative to the run folder
    repaired: Repair | None = None
    drawing: Drawing | None = None
    audit: Audit | None = None
    checks: tuple[Check, ...] = ()
    rejected: Rejection | None = None

    def reject(self, stage: str, reason: str, detail: str = "", twin: str = "") -> Pair:
        """This pair, out of the running and saying why."""
        return self.replace(rejected=Rejection(stage=stage, reason=reason, detail=detail, twin=twin))

    def check(self, gate: str) -> Check | None:
        """What a gate found, if it has looked."""
        return next((check for check in self.checks if check.gate == gate), None)


def pair_id(*origin: str) -> str:
    """One id for life: 12 hex digits of the SHA-256 of where a pair came from."""
    return hashlib.sha256("\0".join(origin).encode()).hexdigest()[:12]


def seed_of(identity: str, attempt: int = 0) -> int:
    """A 32-bit seed from a pair's id and attempt, so that a resumed run draws what a fresh one would."""
    return int.from_bytes(hashlib.sha256(f"{identity}\0{attempt}".encode()).digest()[:4], "big")
