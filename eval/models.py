"""Every architecture by name, and what each is loaded with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from data.engines import Engine
from data.errors import RowFailed, UserError, unknown
from data.llm.cache import ResponseCache
from data.llm.chat import Asker, ChatModel, close_all
from data.llm.prices import Ledger, find_price
from data.local_model import LocalModel, Reply, Settings, open_picture
from eval.ledger import BatchModel, MultimodalModel, fingerprint
from eval.records import Answer, Ask

DEFAULT_MODELS = {  # what `--arch` alone means, as in the original
    "openai": "gpt-4o",
    "llava": "liuhaotian/llava-v1.5-7b",
    "llava_hf": "llava-hf/llava-1.5-7b-hf",
    "llava_next": "llava-hf/llava-v1.6-mistral-7b-hf",
    "qwen2vl": "Qwen/Qwen2-VL-7B-Instruct",
    "mllama": "meta-llama/Llama-3.2-11B-Vision-Instruct",
    "blind": "minilm",
}


@dataclass(frozen=True)
class Server:
    """How API calls are made: one cache and one budget for models and judges of a run."""

    cache: ResponseCache
    ledger: Ledger
    url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    workers: int = 16
    timeout_seconds: float = 120.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    retry_failed: bool = False
    chats: list[ChatModel] = field(default_factory=list)  # opened so far, to be closed

    def asker(self, model: str, temperature: float, max_tokens: int) -> Asker:
        """A model of this server."""
        from data.llm.openai_chat import OpenAIChat

        price = find_price(model)
        if price is None and self.ledger.budget is not None:
            raise UserError(f"A --budget needs the price of {model!r}: add it to data/llm/prices.toml.")
        chat = OpenAIChat(
            model,
            self.url,
            self.key_variable,
            self.timeout_seconds,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            memory=self.cache,
        )
        self.chats.append(chat)
        return Asker(
            chat, self.cache, temperature, max_tokens, price=price, ledger=self.ledger,
            retry_failed=self.retry_failed,
        )  # fmt: skip

    async def close(self) -> None:
        """Close the connections; in the loop that opened them."""
        await close_all(self.chats)


@dataclass(frozen=True)
class Choice:
    """Which model to load and how it should answer."""

    arch: str
    model: str
    settings: Settings
    server: Server | None  # None where no API is asked
    batch_size: int = 8
    conversation: str | None = None
    pickled: bool = False  # whether weights that are no safetensors may be loaded


class LocalAnswers:
    """A local model as the ledger asks it: pictures opened, unreadable ones reported, the rest in a batch."""

    def __init__(self, arch: str, local: LocalModel, batch_size: int, extra: Mapping[str, object]) -> None:
        self.name, self.revision, self.batch_size = local.name, local.revision, batch_size
        self.settings: Mapping[str, object] = {
            "arch": arch,
            "model": local.name,
            **local.settings.model_dump(),
            **extra,
        }
        self.local = local

    def answer_batch(self, asks: Sequence[Ask]) -> list[Answer | RowFailed]:
        """One answer per ask, in order."""
        replies = generate(self.local, [(ask.question, ask.image) for ask in asks])
        return [
            reply if isinstance(reply, RowFailed) else _answer(ask, reply)
            for ask, reply in zip(asks, replies, strict=True)
        ]


def generate(local: LocalModel, shown: Sequence[tuple[str, Path | None]]) -> list[Reply | RowFailed]:
    """Replies to texts with picture files; a picture that cannot be opened fails its own row only."""
    replies: list[Reply | RowFailed | None] = [None] * len(shown)
    prompts = {}
    for at, (text, path) in enumerate(shown):
        try:
            prompts[at] = (text, open_picture(path, local.settings.max_pixels) if path else None)
        except RowFailed as failed:
            replies[at] = failed
    if prompts:
        for at, reply in zip(prompts, local.generate(list(prompts.values())), strict=True):
            replies[at] = reply
    return [reply for reply in replies if reply is not None]


def _answer(ask: Ask, reply: Reply) -> Answer | RowFailed:
    """The reply; an empty one is the failure that an API's is, and nobody judges it."""
    if not reply.text.strip():
        return RowFailed("empty_reply", f"the answer is empty (it ended with {reply.finish_reason!r})")
    return Answer(
        id=ask.id,
        case=ask.case,
        arm=ask.arm,
        text=reply.text,
        finish_reason=reply.finish_reason,
        image_sha256=ask.image_sha256,
        prompt=fingerprint(ask),
    )


def _openai(choice: Choice) -> MultimodalModel:
    from eval.api_model import ApiModel

    settings, server = choice.settings, choice.server
    assert server is not None
    asker = server.asker(choice.model, settings.temperature, settings.max_new_tokens)
    return ApiModel(asker, settings, server.workers)


def _blind(choice: Choice) -> MultimodalModel:
    from data.embedders import load_embedder
    from eval.blind import BlindGuard

    return BlindGuard(load_embedder(choice.model))


def _llava(choice: Choice) -> MultimodalModel:
    from eval.conversations import conversation_for
    from eval.original_llava import load_original_llava

    conversation = conversation_for(choice.model, choice.conversation)
    local = load_original_llava(choice.model, choice.settings, conversation, choice.pickled)
    return LocalAnswers(choice.arch, local, choice.batch_size, {"conversation": conversation})


def _hub(choice: Choice) -> MultimodalModel:
    from data.hub_models import load_hub_model

    local = load_hub_model(choice.arch, choice.model, choice.settings, choice.pickled)
    return LocalAnswers(choice.arch, local, choice.batch_size, {})


ARCHS: dict[str, Callable[[Choice], MultimodalModel]] = {
    "openai": _openai,
    "llava": _llava,
    "llava_hf": _hub,
    "llava_next": _hub,
    "qwen2vl": _hub,
    "mllama": _hub,
    "auto": _hub,
    "blind": _blind,
}


def check_arch(arch: str, model: str | None) -> str:
    """The model to load for an architecture, or the sentence that says what is missing."""
    if arch not in ARCHS:
        raise unknown("arch", arch, ARCHS)
    chosen = model or DEFAULT_MODELS.get(arch)
    if chosen is None:
        raise UserError(f"--arch {arch} needs --model: a checkpoint folder or an id of the Hub.")
    return chosen


def load_model(choice: Choice) -> MultimodalModel:
    """The chosen model, ready to answer."""
    return ARCHS[choice.arch](choice)


class SpreadAnswers:
    """A local model that an engine's workers load; here are only its name and its settings."""

    def __init__(self, choice: Choice, engine: Engine, stage: str) -> None:
        bare = replace(choice, server=None)
        self.make = partial(_answering, bare)
        self.name, self.revision, self.settings, self.batch_size = engine.once(stage, partial(_card, bare))

    def answer_batch(self, asks: Sequence[Ask]) -> Sequence[Answer | RowFailed]:
        """One answer per ask, in order, by a model loaded for it."""
        return self.make()(asks)


def _answering(choice: Choice) -> Callable[[Sequence[Ask]], Sequence[Answer | RowFailed]]:
    """What a worker answers with."""
    model = load_model(choice)
    assert isinstance(model, BatchModel)
    return model.answer_batch


def _card(choice: Choice) -> tuple[str, str, Mapping[str, object], int]:
    """What the ledger records of a model."""
    model = load_model(choice)
    assert isinstance(model, BatchModel)
    return model.name, model.revision, model.settings, model.batch_size


def load_on(choice: Choice, engine: Engine, stage: str) -> MultimodalModel:
    """The chosen model where the engine's workers are; an API is asked from here in any case."""
    if not engine.spreads or choice.arch == "openai":
        return load_model(choice)
    return SpreadAnswers(choice, engine, stage)
