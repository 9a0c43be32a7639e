"""Local vision models for Inspect, whose own provider reads text only: `--model leakfree/ARCH:CHECKPOINT`.

Samples that wait at the same time are answered as one batch.
"""

from __future__ import annotations

import asyncio
import base64
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
        self._waiting: list[tuple[Prompt, asyncio.Future[Reply | RowFailed]]] = []
        self._at_work = asyncio.Lock()

    def max_connections(self) -> int:
        return 2 * self._batch_size

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],  # noqa: ARG002 - Inspect's signature
        tool_choice: ToolChoice,  # noqa: ARG002
        config: GenerateConfig,
    ) -> ModelOutput:
        """One answer; it may be made together with others."""
        future: asyncio.Future[Reply | RowFailed] = asyncio.get_running_loop().create_future()
        self._waiting.append((_prompt(input), future))
        await asyncio.sleep(GATHER_SECONDS)
        async with self._at_work:
            batch, self._waiting = self._waiting[: self._batch_size], self._waiting[self._batch_size :]
            if batch:
                replies = await asyncio.to_thread(self._answer, [prompt for prompt, _ in batch], config)
                for (_, waiting), reply in zip(batch, replies, strict=True):
                    waiting.set_result(reply)
        return self._output(await future)

    def _answer(self, prompts: list[Prompt], config: GenerateConfig) -> list[Reply | RowFailed]:
        if self._local is None:
            self._local = _load(self._arch, self._checkpoint, config)
        return self._local.generate(prompts)

    def _output(self, reply: Reply | RowFailed) -> ModelOutput:
        if isinstance(reply, RowFailed):
            return ModelOutput(model=self.model_name, error=str(reply))
        ended = "max_tokens" if reply.finish_reason == "length" else "stop"
        return ModelOutput.from_content(self.model_name, reply.text, ended)  # type: ignore[arg-type]


def _load(arch: str, checkpoint: str, config: GenerateConfig) -> LocalModel:
    from data.hub_models import load_hub_model
    from eval.original_llava import load_original_llava

    settings = Settings(max_new_tokens=config.max_tokens or 128, temperature=config.temperature or 0.0)
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
