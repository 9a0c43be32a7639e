"""What the stages of a run work with: author, generator, embedder, auditor. Each loads when first used."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from construct.leaks import AuditedDrafts, LeakScorer
from construct.offline.scenes import load_scenes
from construct.profile import ChatSection, Profile
from data.engines import LOCAL, Engine, SpreadEmbedder
from data.errors import UserError
from data.llm.cache import ResponseCache
from data.llm.chat import Asker, ChatModel, close_all
from data.llm.prices import Ledger, Price, find_price
from data.prompts import Prompt, load_prompt
from data.stage_meta import Spend, spend_of
from data.taxonomy import load_taxonomy

if TYPE_CHECKING:
    from audit.auditor import Auditor
    from audit.calibrations import Calibration
    from data.embedders import Embedder
    from generate_images.critic import ChatCritic
    from generate_images.generators import Generator
    from generate_images.similarity import ImageTextModel

BATCHED_ROWS = 10_000
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
PROMPTS = Path(__file__).with_name("prompts")


@dataclass
class Workshop:
    """The tools of one run, made from its profile."""

    profile: Profile
    folder: Path
    budget: float | None = None  # in the price table's currency
    retry_failed: bool = False
    batch: bool = False  # ask through the Batch API
    engine: Engine = LOCAL  # where models work
    one_by_one: frozenset[ChatSection] = frozenset()  # of these the servers have no Batch API
    _prompts: dict[str, Prompt] = field(default_factory=dict)

    def check(self) -> None:
        """Raise `UserError` for a tool or a share nobody knows, before anything is made or paid for."""
        from data.embedders import find_embedder
        from filter.balance import with_shares
        from generate_images.generators import find_generator

        find_embedder(self.profile.audit.embedder)
        draw = self.profile.draw
        find_generator(draw.generator, draw.picture, draw.machine)
        if draw.critic and self.profile.mllm is None:
            raise UserError("A critic of pictures is a model that sees: add an [mllm] table.")
        if self.profile.images and self.profile.mllm is None:
            raise UserError("Looking at [[images]] takes a model that sees: add an [mllm] table.")
        if self.profile.mllm and self.profile.mllm.kind == "offline" and (draw.critic or self.profile.images):
            raise UserError(
                'The offline [mllm] sees no pictures: [[images]] and a critic take one of kind "openai".'
            )
        with_shares(load_taxonomy(), self.profile.balance.shares)
        _check_folder("draw.similarity", draw.similarity)
        _check_folder("filter.image_embedder", self.profile.filter.image_embedder)

    @cached_property
    def cache(self) -> ResponseCache:
        return ResponseCache(self.folder / "responses.sqlite")

    @cached_property
    def ledger(self) -> Ledger:
        """What the run has spent, in this process and before it."""
        return Ledger(self.budget, self.cache.spent())

    @cached_property
    def author(self) -> Asker:
        """The LLM that writes."""
        return self.asker(self.profile.author)

    @cached_property
    def viewer(self) -> Asker:
        """The MLLM that looks at images."""
        assert self.profile.mllm is not None  # see `check`
        return self.asker(self.profile.mllm)

    def workers(self, section: ChatSection) -> int:
        """Rows under way at a time: in batch mode as many as a batch holds."""
        return BATCHED_ROWS if self._in_batches(section) else section.workers

    def _in_batches(self, section: ChatSection) -> bool:
        return self.batch and section.kind == "openai" and section not in self.one_by_one

    def asker(self, section: ChatSection) -> Asker:
        """A chat model of the profile, with the run's cache and ledger."""
        return Asker(
            chat=_chat_model(section, self.cache, self._in_batches(section)),
            cache=self.cache,
            temperature=section.temperature,
            max_tokens=section.max_tokens,
            price=price_of(section),
            ledger=self.ledger,
            retry_failed=self.retry_failed,
        )

    @cached_property
    def generator(self) -> Generator:
        from generate_images.generators import load_generator

        draw = self.profile.draw
        return load_generator(draw.generator, draw.picture, draw.machine)

    @cached_property
    def critic(self) -> ChatCritic | None:
        """The MLLM as judge of pictures; with connections of its own, for it works in another thread."""
        if not self.profile.draw.critic or self.profile.mllm is None:
            return None
        from generate_images.critic import ChatCritic

        return ChatCritic(self.asker(self.profile.mllm), self.workers(self.profile.mllm))

    @cached_property
    def similarity(self) -> ImageTextModel | None:
        """The image-text model that helps to choose among a pair's pictures."""
        if self.profile.draw.similarity is None:
            return None
        from generate_images.similarity import ImageTextModel

        return ImageTextModel(self.profile.draw.similarity, self.profile.draw.machine.device)

    @cached_property
    def embedder(self) -> Embedder:
        from data.embedders import load_embedder

        return load_embedder(self.profile.audit.embedder)

    def spread_embedder(self, stage: str) -> Embedder:
        """The embedder, in the engine's workers where it has some."""
        from data.embedders import find_embedder

        name = self.profile.audit.embedder
        if not self.engine.spreads:
            return self.embedder
        return SpreadEmbedder(name, self.engine, stage, find_embedder(name))

    def elsewhere(self) -> Workshop:
        """The same tools as another process would make them; none that spends money."""
        return type(self)(self.profile, self.folder.absolute())

    @cached_property
    def calibration(self) -> Calibration:
        from audit.calibrations import load_calibration

        return load_calibration(self.profile.audit.embedder)

    @cached_property
    def auditor(self) -> Auditor:
        from audit.auditor import Auditor

        rate = self.profile.audit.false_discovery_rate
        return Auditor(self.embedder, self.calibration, false_discovery_rate=rate)

    @cached_property
    def leak_scorer(self) -> LeakScorer:
        """Scores drafts against the scene bank's descriptions: a pool that no run changes."""
        return AuditedDrafts(self.auditor, [scene.image_description for scene in load_scenes()])

    def spent(self) -> str:
        """Calls, tokens and cost of the run so far, for the progress bar."""
        return self.ledger.spent.words() if self.ledger.spent.calls else ""

    def spend(self, stage: str) -> Spend:
        """What a stage has spent, over all its runs in this folder."""
        return spend_of(self.cache.spent(stage))

    def prompt(self, name: str) -> Prompt:
        if name not in self._prompts:
            self._prompts[name] = load_prompt(PROMPTS / f"{name}.md")
        return self._prompts[name]

    async def close(self) -> None:
        """Close the connections that were opened; the cache stays open for the run's last words."""
        opened = [self.__dict__[name].chat for name in ("author", "viewer") if name in self.__dict__]
        await close_all(opened)
        if (critic := self.__dict__.get("critic")) is not None:
            critic.close()


def _check_folder(key: str, model: str | None) -> None:
    """Raise `UserError` where a model is neither a folder nor written as one of the Hub is."""
    if model and not Path(model).is_dir() and not HUB_ID.fullmatch(model):
        raise UserError(f"{key}: there is no folder {model}; a model of the Hub is written OWNER/MODEL.")


def price_of(section: ChatSection) -> Price | None:
    """What the model costs: by the profile, or by the price table; None when neither knows."""
    if section.input_price is not None and section.output_price is not None:
        return Price(input=section.input_price, output=section.output_price)
    return find_price(section.model)


def _chat_model(section: ChatSection, cache: ResponseCache, batch: bool) -> ChatModel:
    if section.kind == "offline":
        from construct.offline.author import OfflineAuthor

        return OfflineAuthor()
    if batch:
        from data.llm.batch_api import BatchChat

        return BatchChat(
            section.model, section.base_url, section.key_variable, section.timeout_seconds, memory=cache
        )
    from data.llm.openai_chat import OpenAIChat

    return OpenAIChat(
        section.model,
        section.base_url,
        section.key_variable,
        section.timeout_seconds,
        requests_per_minute=section.requests_per_minute,
        tokens_per_minute=section.tokens_per_minute,
        memory=cache,
    )
