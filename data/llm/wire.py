"""The OpenAI chat protocol on the wire: requests as JSON bodies, response bodies as completions."""

from __future__ import annotations

import json
from typing import Any

from data.llm.chat import ChatRequest, Completion, Message
from data.llm.dialect import Dialect
from data.llm.faults import Fault, discreet
from data.llm.pictures import data_url


def chat_body(request: ChatRequest, dialect: Dialect) -> dict[str, Any]:
    """The JSON body of a chat request in a server's dialect. Raises `RowFailed` for an unreadable picture."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        dialect.limit: request.max_tokens,
    }
    if dialect.temperature:
        body["temperature"] = request.temperature
    if not request.schema:
        return body  # free text
    if dialect.replies == "json_schema":
        schema = {"name": request.schema_name, "strict": True, "schema": request.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif dialect.replies == "json_object":
        body["response_format"] = {"type": "json_object"}
    return body


def _message(message: Message) -> dict[str, Any]:
    if not message.pictures:
        return {"role": message.role, "content": message.text}
    shown = [{"type": "image_url", "image_url": {"url": data_url(each)}} for each in message.pictures]
    return {"role": message.role, "content": [*shown, {"type": "text", "text": message.text}]}


def read_completion(content: bytes) -> Completion | Fault:
    """The completion in a response body, or a passing fault when there is none in it."""
    try:
        body = json.loads(content)
        if body.get("error") and not body.get("choices"):
            return Fault("server_error", discreet(json.dumps(body["error"])), passing=True)
        choice, usage = body["choices"][0], body.get("usage") or {}
        message = choice.get("message") or {}
        return Completion(
            text=_text(message.get("content")),
            refusal=message.get("refusal") or None,
            finish_reason=choice.get("finish_reason") or "stop",
            input_tokens=usage.get("prompt_tokens") or 0,
            output_tokens=usage.get("completion_tokens") or 0,
            cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        said = discreet(content[:200].decode(errors="replace"))
        return Fault("server_error", f"not a chat completion: {said}", passing=True)


def _text(content: object) -> str:
    """A message's text; some servers send it in parts."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
