"""Checkpoints in the library's own layout, asked through the chat template they came with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data.errors import UserError
from data.local_model import (
    LocalModel,
    Prompt,
    Settings,
    cannot_load,
    import_transformers,
    loading,
    revision_of,
)

CLASSES = {  # arch -> (model class, the config's model type)
    "llava_hf": ("LlavaForConditionalGeneration", "llava"),
    "llava_next": ("LlavaNextForConditionalGeneration", "llava_next"),
    "qwen2vl": ("Qwen2VLForConditionalGeneration", "qwen2_vl"),
    "mllama": ("MllamaForConditionalGeneration", "mllama"),
    "auto": ("AutoModelForImageTextToText", ""),
}


def load_hub_model(arch: str, model: str, settings: Settings, pickled: bool = False) -> LocalModel:
    """Model and processor of a checkpoint folder or a Hub id; `pickled` weights only where they are trusted."""
    transformers = import_transformers()
    name, model_type = CLASSES[arch]
    try:
        config = transformers.AutoConfig.from_pretrained(model)
        if model_type and config.model_type != model_type:
            raise UserError(
                f"{model} is a {config.model_type!r} model, not {model_type!r}: use --arch auto for it."
            )
        processor = _processor_class(transformers, config.model_type).from_pretrained(model)
        loaded = getattr(transformers, name).from_pretrained(model, **loading(pickled)).eval()
    except (OSError, ValueError, ImportError) as error:
        raise cannot_load(model, error) from error
    encode = ChatEncoder(processor, model)
    return LocalModel(model, revision_of(model, config), loaded, encode, processor.tokenizer, settings)


def _processor_class(transformers: Any, model_type: str) -> Any:
    """The library's choice; for Qwen2-VL one without its video half, which nothing here shows anything to.

    That half needs torchvision, which has no build for every machine.
    """
    if model_type != "qwen2_vl":
        return transformers.AutoProcessor

    class StillQwen2VLProcessor(transformers.Qwen2VLProcessor):  # type: ignore[misc]
        def __init__(self, image_processor: Any = None, tokenizer: Any = None, **others: Any) -> None:
            self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
            self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
            self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
            mixin = transformers.ProcessorMixin
            mixin.__init__(self, image_processor, tokenizer, chat_template=others.get("chat_template"))

    return StillQwen2VLProcessor


class ChatEncoder:
    """Prompts as one user turn each, picture first, by the processor's chat template."""

    def __init__(self, processor: Any, model: str) -> None:
        template = getattr(processor, "chat_template", None) or processor.tokenizer.chat_template
        if not template:
            raise UserError(
                f"{model} comes without a chat template: nobody can say how it wants to be asked."
            )
        processor.tokenizer.padding_side = "left"
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        processor.chat_template = template
        self.processor = processor

    def __call__(self, prompts: Sequence[Prompt]) -> Any:
        """Tensors of a batch. What looks like a control token in a question stays plain text."""
        turns = [[{"role": "user", "content": _content(*prompt)}] for prompt in prompts]
        return self.processor.apply_chat_template(
            turns,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            sanitize_control_tokens=True,
            processor_kwargs={"padding": True},
        )


def _content(question: str, picture: Any) -> list[dict[str, Any]]:
    shown = [{"type": "image", "image": picture}] if picture is not None else []
    return [*shown, {"type": "text", "text": question}]
