"""Models behind any server that speaks the OpenAI protocol: cached, paced, within a budget."""

from __future__ import annotations

from collections.abc import Mapping

from data.errors import RowFailed
from data.llm.chat import Asker
from data.llm.pictures import Picture
from data.local_model import Settings
from eval.ledger import fingerprint
from eval.records import Answer, Ask

STATES = {"blocked": "provider_blocked", "refused": "model_refused"}


class ApiModel:
    """Asks one question at a time, many at once."""

    def __init__(self, asker: Asker, settings: Settings, workers: int) -> None:
        self.name, self.revision = asker.chat.model, ""
        own = settings.model_dump(exclude={"max_pixels"})  # which is local models' alone
        self.settings: Mapping[str, object] = {"arch": "openai", "model": self.name, **own}
        self.workers = workers
        self._asker = asker

    async def answer(self, ask: Ask) -> Answer:
        """What the model said, or that it refused, or that its provider blocked it. Raises `RowFailed`."""
        shown = [Picture(ask.image, ask.image_sha256)] if ask.image else []
        try:
            completion = await self._asker.say(ask.question, shown)
        except RowFailed as failed:
            if failed.reason not in STATES:
                raise
            return _answer(ask, STATES[failed.reason], failed.detail, failed.reason)
        if completion.refusal:
            return _answer(ask, "model_refused", completion.refusal, completion.finish_reason)
        if completion.finish_reason == "content_filter":
            return _answer(ask, "provider_blocked", completion.text, completion.finish_reason)
        return _answer(ask, "answered", completion.text, completion.finish_reason)

    def spent(self) -> str:
        """Calls, tokens and money so far."""
        return self._asker.ledger.fresh.words() if self._asker.ledger.fresh.calls else ""


def _answer(ask: Ask, state: str, text: str, finish_reason: str) -> Answer:
    return Answer.model_validate(
        {
            "id": ask.id, "case": ask.case, "arm": ask.arm, "state": state, "text": text,
            "finish_reason": finish_reason, "image_sha256": ask.image_sha256, "prompt": fingerprint(ask),
        }
    )  # fmt: skip
