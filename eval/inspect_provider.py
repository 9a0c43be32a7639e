"""Local vision models for Inspect, whose own provider reads text only: `--model leakfree/ARCH:CHECKPOINT`.

Samples that wait at the same time for answers of the same length and temperature are one batch.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    ContentImage,
    ContentText,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from data.errors import RowFailed, UserError
from data.local_model import LocalModel, Prompt, Reply, Settings, open_picture

GATHER_SECONDS = 0.05  # how long the first sample of a batch waits for others
LOCAL = ("llava", "llava_hf", "llava_next", "qwen2vl", "mllama", "auto")


@dataclass(eq=False)
class Waiting:
    """A sample's prompt, and what became of it once its batch was done."""

    prompt: Prompt
    settings: Settings
    outcome: Reply | RowFailed | Exception | None = None


@modelapi("leakfree")
class LocalVision(ModelAPI):
    """One checkpoint; `batch_size` can be given with -M."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - Inspect's signature
        batch_size: int = 8,
        **_: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        arch, _colon, checkpoint = model_name.partition(":")
        if arch not in LOCAL or not checkpoint:
            raise UserError(f"Write leakfree/ARCH:CHECKPOINT with ARCH one of {', '.join(LOCAL)}.")
        self._arch, self._checkpoint, self._batch_size = arch, checkpoint, batch_size
        self._local: LocalModel | None = None
        self._waiting: list[Waiting] = []
        self._at_work = asyncio.Lock()
        self._worker = ThreadPoolExecutor(1)  # a batch whose sample is cancelled ends before the next begins

    def max_connections(self) -> int:
        return 2 * self._batch_size

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],  # noqa: ARG002 - Inspect's signature
        tool_choice: ToolChoice,  # noqa: ARG002
        config: GenerateConfig,
    ) -> ModelOutput:
        """One answer; it may be made together with others. Whoever's turn comes takes the others along."""
        mine = Waiting(_prompt(input), _settings(config))
        self._waiting.append(mine)
        try:
            await asyncio.sleep(GATHER_SECONDS)
            async with self._at_work:
                if mine.outcome is None:
                    await self._answer_with_others(mine)
        finally:
            self._waiting.remove(mine)
        return self._output(mine.outcome)

    async def _answer_with_others(self, mine: Waiting) -> None:
        """Every one of the batch gets its outcome; where `mine` is cancelled, the others take their own turns."""
        others = [each for each in self._waiting if each is not mine and each.outcome is None]
        alike = [each for each in others if each.settings == mine.settings]
        batch = [mine, *alike[: self._batch_size - 1]]
        prompts = [each.prompt for each in batch]
        outcomes: Sequence[Reply | RowFailed | Exception]
        try:
            outcomes = await asyncio.get_running_loop().run_in_executor(
                self._worker, self._answer, prompts, mine.settings
            )
        except Exception as error:  # noqa: BLE001 - raised again by every sample of the batch
            outcomes = [error] * len(batch)
        for each, outcome in zip(batch, outcomes, strict=True):
            each.outcome = outcome

    def _answer(self, prompts: list[Prompt], settings: Settings) -> list[Reply | RowFailed]:
        if self._local is None:
            self._local = _load(self._arch, self._checkpoint, settings)
        self._local.settings = settings
        return self._local.generate(prompts)

    def _output(self, reply: Reply | RowFailed | Exception | None) -> ModelOutput:
        if isinstance(reply, RowFailed):
            return ModelOutput(model=self.model_name, error=str(reply))
        if isinstance(reply, Exception):
            raise reply
        assert reply is not None
        ended = "max_tokens" if reply.finish_reason == "length" else "stop"
        return ModelOutput.from_content(self.model_name, reply.text, ended)  # type: ignore[arg-type]


def _settings(config: GenerateConfig) -> Settings:
    return Settings(max_new_tokens=config.max_tokens or 128, temperature=config.temperature or 0.0)


def _load(arch: str, checkpoint: str, settings: Settings) -> LocalModel:
    from data.hub_models import load_hub_model
    from eval.original_llava import load_original_llava

    if arch == "llava":
        return load_original_llava(checkpoint, settings)
    return load_hub_model(arch, checkpoint, settings)


def _prompt(messages: list[ChatMessage]) -> Prompt:
    """All texts of a conversation, and its first picture: the benchmark has one of each."""
    texts, picture = [], None
    for message in messages:
        parts = [ContentText(text=message.content)] if isinstance(message.content, str) else message.content
        for part in parts:
            if isinstance(part, ContentText):
                texts.append(part.text)
            elif isinstance(part, ContentImage) and picture is None:
                picture = open_picture(_content_of(part.image), Settings().max_pixels)
    return "\n\n".join(texts), picture


def _content_of(image: str) -> BytesIO:
    """The file inside a data URI: Inspect hands pictures over as nothing else."""
    return BytesIO(base64.b64decode(image.partition("base64,")[2]))
