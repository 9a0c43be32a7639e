"""Captions of pictures that nobody described, by a multimodal model behind a server or in a local folder."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from audit.pictures import Look, Looker, look_at
from data.errors import RowFailed, UserError
from data.llm.cache import ResponseCache
from data.llm.chat import Asker
from data.llm.pictures import picture
from data.llm.replies import refuses
from data.progress import StageProgress
from data.prompts import load_prompt
from data.records import Record

if TYPE_CHECKING:
    from PIL.Image import Image

PROMPT = Path(__file__).with_name("prompts") / "caption.md"
AS_JSON = 'Reply with JSON: {"caption": "..."}'
AS_TEXT = "Reply with the description and nothing else."
WORKERS = 8  # pictures on their way to a server
TIMEOUT_SECONDS = 120.0
BATCH_SIZE = 4  # pictures at once in a local model
MAX_NEW_TOKENS = 160  # of a local model: three sentences with room
SENTENCE_END = re.compile(r"[.!?](?=\s|$)")

Captions = dict[Path, str | RowFailed]


class Captioner(Protocol):
    """Says what each distinct picture shows, or why it does not."""

    name: str

    def caption(self, paths: Sequence[Path]) -> Captions: ...


class Caption(Record):
    """A server's reply."""

    caption: str


class ChatCaptioner:
    """A model behind an OpenAI-compatible server; replies are kept in the asker's cache."""

    def __init__(self, asker: Asker, workers: int = WORKERS) -> None:
        self.name = asker.chat.model
        self._asker = asker
        self._workers = workers
        self._words = load_prompt(PROMPT).fill(reply=AS_JSON)

    def caption(self, paths: Sequence[Path]) -> Captions:
        """Raises `UserError` when the server itself is the matter; captions made so far are kept."""
        distinct = list(dict.fromkeys(paths))
        if not distinct:
            return {}
        with StageProgress("caption", len(distinct), 0, self._spent) as progress:
            return asyncio.run(self._caption_all(distinct, progress.advance))

    def _spent(self) -> str:
        return self._asker.ledger.fresh.words() if self._asker.ledger.fresh.calls else ""

    async def _caption_all(self, paths: Sequence[Path], done: Callable[[], None]) -> Captions:
        """Bounded workers share one iterator; after an error only the user can mend, no picture is begun."""
        captions: Captions = {}
        stopped: list[UserError] = []
        todo = iter(paths)

        async def work() -> None:
            for path in todo:
                try:
                    captions[path] = await self._caption(path)
                except RowFailed as failure:
                    captions[path] = failure
                except UserError as error:
                    stopped.append(error)
                done()
                if stopped:
                    return

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(work())
        finally:
            await self._asker.chat.close()
        if stopped:
            raise stopped[0]
        return captions

    async def _caption(self, path: Path) -> str:
        shown = await asyncio.to_thread(picture, path)
        reply = await self._asker.ask(*self._words, Caption, pictures=[shown])
        return _said(reply.caption)


class LocalCaptioner:
    """A checkpoint that transformers loads; what it said is kept by the picture's content."""

    def __init__(self, model: str, cache: ResponseCache, *, pickled: bool = False) -> None:
        from data.local_model import config_of, revision_of

        prompt = load_prompt(PROMPT)
        self.name = f"hf:{model}"
        self._model, self._cache, self._pickled = model, cache, pickled
        self._words = "\n\n".join(prompt.fill(reply=AS_TEXT))
        known_as = f"caption {revision_of(model, config_of(model)) or model} {prompt.fingerprint}"
        self._looker = Looker(
            f"{known_as} {MAX_NEW_TOKENS}", self._load, batch_size=BATCH_SIZE, max_pixels=1_003_520
        )

    def caption(self, paths: Sequence[Path]) -> Captions:
        return look_at(paths, self._looker, self._cache, "caption")

    def _load(self) -> Look:
        from data.hub_models import load_hub_model
        from data.local_model import Settings

        local = load_hub_model("auto", self._model, Settings(max_new_tokens=MAX_NEW_TOKENS), self._pickled)

        def look(images: Sequence[Image]) -> list[str | RowFailed]:
            replies = local.generate([(self._words, image) for image in images])
            return [
                reply if isinstance(reply, RowFailed) else _readable(reply.text, reply.finish_reason)
                for reply in replies
            ]

        return look


def _readable(text: str, finish_reason: str) -> str | RowFailed:
    """A local model's caption; one that hit the limit ends with its last whole sentence."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    whole = text[: ends[-1]] if finish_reason == "length" and ends else text
    try:
        return _said(whole)
    except RowFailed as failure:
        return failure


def _said(caption: str) -> str:
    """The caption, if it is one."""
    if not caption.strip():
        raise RowFailed("empty_reply", "the caption is empty")
    if refuses(caption):
        raise RowFailed("refused", caption.strip()[:200])
    return caption.strip()
