"""What one server understands of the OpenAI protocol, found out once and remembered.

Structured output goes by JSON schema; servers that refuse that get JSON mode, and those that refuse
that too get plain text, from which the reply is extracted.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from data.llm.faults import STRUCTURE

Replies = Literal["json_schema", "json_object", "text"]
REPLIES: tuple[Replies, ...] = ("json_schema", "json_object", "text")
# What a refusal speaks of that is about how a request was phrased, and not about what it asks.
PHRASING = re.compile(rf"temperature|max_(completion_)?tokens|{STRUCTURE.pattern}", re.I)
LIMITS: tuple[Literal["max_tokens", "max_completion_tokens"], ...] = ("max_completion_tokens", "max_tokens")


class Dialect(BaseModel):
    """How requests to a server are phrased."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replies: Replies = "json_schema"
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: bool = True


class Memory(Protocol):
    """Keeps a line of text by name, also when the program ends."""

    def recall(self, name: str) -> str | None: ...

    def remember(self, name: str, value: str) -> None: ...


def remembered(memory: Memory | None, name: str) -> Dialect | None:
    """The dialect noted for a server, if there is one."""
    note = memory.recall(name) if memory is not None else None
    try:
        return Dialect.model_validate_json(note) if note else None
    except ValidationError:
        return None  # noted by another version: find out again


def simpler(dialect: Dialect, complaint: str, tried: Collection[Dialect]) -> Dialect | None:
    """What to try next when a server refuses a request: what it complains of first, then less structure."""
    options: list[dict[str, object]] = []
    if re.search(r"max_(completion_)?tokens", complaint):
        options.append({"limit": LIMITS[1 - LIMITS.index(dialect.limit)]})
    if "temperature" in complaint:
        options.append({"temperature": False})
    options += [{"replies": replies} for replies in REPLIES[REPLIES.index(dialect.replies) + 1 :]]
    others = (dialect.model_copy(update=option) for option in options)
    return next((other for other in others if other not in tried), None)
