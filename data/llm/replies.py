"""Reading a model's reply: the JSON in it, a refusal in it, or what is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

ReplyType = TypeVar("ReplyType", bound=BaseModel)

REFUSING_PROSE = re.compile(
    r"\s*(?:(?:i['’]?m|i am)\s+(?:very |really |so )?(?:sorry|afraid|unable|not able|not going to)"
    r"|(?:i\s+)?apologi[sz]e|my apologies|sorry\b|unfortunately,? i\b|as an ai\b|no, i (?:can|won)"
    r"|i (?:cannot|can['’]?t|can not|won['’]?t|will not|must decline|have to decline|do not feel comfortable"
    r"|don['’]?t feel comfortable))",
    re.IGNORECASE,
)
REFUSING_FIELD = re.compile(
    r"\s*(?:(?:i['’]?m|i am) sorry|i apologi[sz]e|sorry|as an ai)\b.{0,60}?"
    r"\b(?:can['’]?t|cannot|can not|unable|won['’]?t|not able)\b"
    r"|\s*i (?:cannot|can['’]?t|can not|won['’]?t|will not|am unable to) "
    r"(?:help|assist|comply|fulfil+|provide|create|generate|produce)\b.{0,40}\b(?:that|this|request|such)\b",
    re.IGNORECASE | re.DOTALL,
)
THINKING = re.compile(r".*?</think(?:ing)?>", re.DOTALL)  # servers may leave out where it begins
MOST_OBJECTS = 20  # opening braces tried in a long reply
UNSUPPORTED = ("title", "default", "minLength", "maxLength")  # by structured output; validated here instead


class Unreadable(Exception):
    """A reply that does not fit its schema; the message says where."""


def read_reply(text: str, reply_type: type[ReplyType]) -> ReplyType:
    """The reply in a text: the text itself, or JSON inside a code fence or prose. Raises `Unreadable`.

    Several objects that fit and differ are no reply: the first may be quoted from the text that was judged.
    """
    problem = "reply: not valid JSON"
    found: list[ReplyType] = []
    for candidate in _candidates(text):
        try:
            found.append(reply_type.model_validate_json(candidate))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "reply"
            if first["type"] != "json_invalid":
                problem = f"{place}: {first['msg']}"
    if found and all(each == found[0] for each in found):
        return found[0]
    if found:
        problem = "reply: several JSON objects that differ"
    raise Unreadable(problem if text.strip() else "reply: empty")


def _candidates(text: str) -> Iterator[str]:
    """The text without a model's thinking, then every JSON object that begins somewhere in it."""
    said = _without_thinking(text)
    yield said
    yield from (said[start:end] for start, end in _objects(said))


def _without_thinking(text: str) -> str:
    """What comes after a model's thinking; a tag inside a JSON object is something that the object says."""
    thinking = THINKING.match(text)
    if thinking is None or any(start < thinking.end() <= end for start, end in _objects(text)):
        return text
    return text[thinking.end() :]


def _objects(text: str) -> Iterator[tuple[int, int]]:
    """Where the JSON objects in a text begin and end."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    for _ in range(MOST_OBJECTS):
        if start < 0:
            return
        try:
            _, end = decoder.raw_decode(text, start)
            yield start, end
        except (ValueError, RecursionError):
            end = start + 1
        start = text.find("{", end)


def refuses(text: str) -> bool:
    """Whether prose that should have been JSON declines to answer."""
    return REFUSING_PROSE.match(_without_thinking(text)) is not None


def refuses_inside(reply: BaseModel) -> bool:
    """Whether a field of a well-formed reply declines to answer."""
    return any(isinstance(value, str) and REFUSING_FIELD.match(value) for value in reply.__dict__.values())


@cache
def schema_of(reply_type: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a reply type as structured output wants it: closed, everything required."""
    schema: dict[str, Any] = _closed(reply_type.model_json_schema())
    return schema


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    is_object = schema.get("type") == "object" and isinstance(schema.get("properties"), dict)
    closed = {
        key: {name: _closed(each) for name, each in value.items()} if key == "properties" else _closed(value)
        for key, value in schema.items()
        if key not in UNSUPPORTED
    }
    if is_object:
        closed |= {"additionalProperties": False, "required": list(closed["properties"])}
    return closed
