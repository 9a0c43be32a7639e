"""Chat models behind one small protocol, and `ask`: a validated, cached, structured answer.

Nothing that asks knows whether a paid API or the offline author answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from pydantic import BaseModel, field_validator

from data.errors import PERMANENT, RowFailed
from data.llm.cache import ResponseCache
from data.llm.pictures import Picture
from data.llm.prices import BATCH_DISCOUNT, Bill, Ledger, Price
from data.llm.replies import ReplyType, Unreadable, read_reply, refuses, refuses_inside, schema_of
from data.sources.columns import clean

CHARACTERS_PER_TOKEN = 4  # a common rule of thumb for English
TOKENS_PER_PICTURE = 1000  # about what a picture at the size limit counts for
TOKENS_PER_FRAME = 10  # at most, of what a server puts around a message
SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class ChatRequest:
    """Everything an answer depends on; its hash is the cache key."""

    model: str
    messages: tuple[Message, ...]
    schema_name: str
    schema: dict[str, Any]
    temperature: float
    max_tokens: int
    attempt: int = 0  # asked anew on purpose: another attempt is another request
    again: int = 0  # asked anew because an earlier answer was a failure

    def key(self) -> str:
        """SHA-256 of the whole request; a picture counts by its content, not by its path."""
        whole = [self.model, self.schema_name, self.schema, self.temperature, self.max_tokens, self.attempt]
        said = [
            [message.role, message.text, *(picture.sha256 for picture in message.pictures)]
            for message in self.messages
        ]
        return hashlib.sha256(json.dumps([*whole, self.again, said], sort_keys=True).encode()).hexdigest()

    def most_tokens(self, of_a_picture: int) -> int:
        """How many tokens the request counts for at worst, its schema included: twice as many as English
        text, and outside of ASCII one for each byte."""
        whole = "".join([json.dumps(self.schema), *(message.text for message in self.messages)])
        ascii_letters = len(whole.encode("ascii", "ignore"))
        other_bytes = len(whole.encode(errors="replace")) - ascii_letters
        pictures = sum(len(message.pictures) for message in self.messages)
        frames = len(self.messages) * TOKENS_PER_FRAME
        return 2 * ascii_letters // CHARACTERS_PER_TOKEN + other_bytes + frames + pictures * of_a_picture

    def tokens(self) -> int:
        """About how many tokens the messages count for."""
        letters = sum(len(message.text) for message in self.messages)
        pictures = sum(len(message.pictures) for message in self.messages)
        return letters // CHARACTERS_PER_TOKEN + pictures * TOKENS_PER_PICTURE


class Completion(BaseModel):
    """What came back: text, or a refusal; why it ended; how many tokens it took."""

    text: str = ""
    refusal: str | None = None
    finish_reason: str = "stop"
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0  # of the input tokens, those the server had seen before
    batched: bool = False

    @field_validator("text", "refusal", "finish_reason")
    @classmethod
    def _can_be_stored(cls, text: str | None) -> str | None:
        """A server may send half a surrogate pair, which no file of ours can hold."""
        return text and clean(text)


class ChatModel(Protocol):
    """Answers a request. Raises `RowFailed` when it cannot, `UserError` when nobody could."""

    model: str

    async def complete(self, request: ChatRequest) -> Completion: ...

    async def close(self) -> None: ...


async def close_all(chats: Iterable[ChatModel]) -> None:
    """Close the connections of chat models, also when the run is told to stop in the middle of it."""
    closing = asyncio.gather(*(chat.close() for chat in chats))
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await closing
        raise


@dataclass
class Asker:
    """A chat model with its settings and its cache: what the stages of a run ask."""

    chat: ChatModel
    cache: ResponseCache
    temperature: float = 0.7
    max_tokens: int = 1024
    corrections: int = 2  # how often an invalid reply is sent back with what is wrong with it
    price: Price | None = None
    ledger: Ledger = field(default_factory=Ledger)
    retry_failed: bool = False  # ask again where a failure is remembered
    _under_way: dict[str, asyncio.Future[Completion]] = field(default_factory=dict)

    async def ask(
        self,
        system: str,
        user: str,
        reply_type: type[ReplyType],
        attempt: int = 0,
        pictures: Sequence[Picture] = (),
        temperature: float | None = None,
    ) -> ReplyType:
        """One answer, validated against `reply_type`; `temperature` None is the asker's own.

        An invalid answer goes back with the validation error, `corrections` times at most.
        Raises `RowFailed`, with one of the reasons in `PERMANENT` when asking again would not help:
        that failure is remembered, and only `retry_failed` asks again.
        """
        request = self._first(
            ChatRequest(
                model=self.chat.model,
                messages=(Message("system", system), Message("user", user, tuple(pictures))),
                schema_name=reply_type.__name__,
                schema=schema_of(reply_type),
                temperature=self.temperature if temperature is None else temperature,
                max_tokens=self.max_tokens,
                attempt=attempt,
            )
        )
        try:
            return await self._converse(request, reply_type)
        except RowFailed as failed:
            if failed.reason in PERMANENT:
                self.cache.remember_failure(request.key(), failed)
            raise

    async def say(self, user: str, pictures: Sequence[Picture] = ()) -> Completion:
        """One free-text answer as it came, be it a refusal, blocked or cut off.

        Raises `RowFailed`; an empty answer is remembered as the failure it is.
        """
        request = self._first(
            ChatRequest(
                model=self.chat.model,
                messages=(Message("user", user, tuple(pictures)),),
                schema_name="",
                schema={},
                temperature=self.temperature,
                max_tokens=self.max_tokens,
            )
        )
        completion = await self._complete(request)
        if completion.text.strip() or completion.refusal or completion.finish_reason == "content_filter":
            return completion
        failed = RowFailed("empty_reply", f"the answer is empty (it ended with {completion.finish_reason!r})")
        self.cache.remember_failure(request.key(), failed)
        raise failed

    def _first(self, request: ChatRequest) -> ChatRequest:
        """The request to begin with, past those whose failure is remembered. Raises a remembered failure."""
        failed = self.cache.failure(request.key())
        while failed is not None:
            request = replace(request, again=request.again + 1)
            key = request.key()
            known = self.cache.failure(key)
            if known is None and not self.retry_failed and self.cache.get(key) is None:
                raise failed
            failed = known
        return request

    async def _converse(self, request: ChatRequest, reply_type: type[ReplyType]) -> ReplyType:
        """Ask, and send an invalid reply back with what is wrong with it."""
        for _ in range(self.corrections + 1):
            text = _text_of(await self._complete(request))
            try:
                reply = read_reply(text, reply_type)
            except Unreadable as error:
                if refuses(text):
                    raise RowFailed("refused", text[:SHOWN_CHARACTERS]) from None
                problem = str(error)
                request = replace(request, messages=request.messages + _correction(text, problem))
                continue
            if refuses_inside(reply):
                raise RowFailed("refused", text[:SHOWN_CHARACTERS])
            return reply
        raise RowFailed("invalid_reply" if text.strip() else "empty_reply", problem)

    async def _complete(self, request: ChatRequest) -> Completion:
        """From the cache, from the same request under way, or from the model."""
        key = request.key()
        stored = self.cache.get(key)
        if stored is not None:
            self.ledger.cached += 1
            return Completion.model_validate_json(stored)
        if key in self._under_way:
            return await asyncio.shield(self._under_way[key])
        self._under_way[key] = asyncio.ensure_future(self._pay_for(request, key))
        try:
            return await self._under_way[key]
        finally:
            del self._under_way[key]

    async def _pay_for(self, request: ChatRequest, key: str) -> Completion:
        """The model's answer, booked and stored before anyone looks at it."""
        stage = self.ledger.stage
        price = self.price
        worst = price.of(request.most_tokens(price.picture_tokens), request.max_tokens) if price else 0.0
        async with self.ledger.reserve(worst):
            completion = await self.chat.complete(request)
            bill = self._bill(completion)
            self.cache.put(key, completion.model_dump_json(exclude_defaults=True), bill, stage)
            self.ledger.book(bill)
        return completion

    def _bill(self, completion: Completion) -> Bill:
        tokens = (completion.input_tokens, completion.output_tokens)
        if self.price is None:
            return Bill(1, *tokens, unpriced=1)
        cost = self.price.of(*tokens, completion.cached_tokens)
        return Bill(1, *tokens, cost=cost * BATCH_DISCOUNT if completion.batched else cost)


def _text_of(completion: Completion) -> str:
    """The answer's text; a refusal, a provider's block or a cut-off answer is a failure, not a text."""
    if completion.refusal:
        raise RowFailed("refused", completion.refusal[:SHOWN_CHARACTERS])
    if completion.finish_reason == "content_filter":
        raise RowFailed("blocked", "the provider's content filter stopped the answer")
    if completion.finish_reason == "length":
        raise RowFailed("truncated", "the answer hit max_tokens: raise it in the profile")
    return completion.text


def _correction(text: str, problem: str) -> tuple[Message, ...]:
    """What goes back after a reply that cannot be used."""
    return (
        Message("assistant", text if text.strip() else "(no reply)"),
        Message("user", f"That reply does not fit the schema ({problem}). Reply again, JSON only."),
    )
