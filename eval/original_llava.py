"""Checkpoints in the original LLaVA layout, their weights renamed while loading.

config.json        one flat table: the language model's keys, and mm_vision_tower, mm_projector_type, ...
*.safetensors      model.layers.*, lm_head.*, model.mm_projector.{0,2}.*, and model.vision_tower.* where
  or *.bin         the vision tower was trained too; otherwise it comes from mm_vision_tower
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
from eval.conversations import IMAGE, conversation_for, converse

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

NEW_NAMES = {
    r"^model\.(embed_tokens|layers|norm)\.": r"model.language_model.\1.",
    r"^model\.mm_projector\.0\.": "model.multi_modal_projector.linear_1.",
    r"^model\.mm_projector\.2\.": "model.multi_modal_projector.linear_2.",
    r"^model\.vision_tower\.vision_tower\.(vision_model\.)?": "model.vision_tower.",
}
LANGUAGE_MODELS = {"llama": "LlamaConfig", "mistral": "MistralConfig", "qwen": "Qwen2Config"}
START, END = "<im_start>", "<im_end>"


class Layout(NamedTuple):
    """What a checkpoint's flat config says."""

    config: dict[str, Any]
    tower: str  # folder or Hub id of the vision tower

    @property
    def anyres(self) -> bool:
        return str(self.config.get("image_aspect_ratio", "")).startswith("anyres")

    @property
    def markers(self) -> tuple[str, str]:
        return (START, END) if self.config.get("mm_use_im_start_end") else ("", "")


def load_original_llava(
    model: str, settings: Settings, conversation: str | None = None, pickled: bool = False
) -> LocalModel:
    """A checkpoint as the original code reads it: its template, its square padding, its tokens."""
    transformers = import_transformers()
    template = conversation_for(model, conversation)
    try:
        layout = read_layout(transformers, model)
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        placeholder = _placeholder(tokenizer)
        loaded = _load(transformers, model, layout, placeholder, pickled).eval()
        images = _image_processor(transformers, layout)
    except (OSError, ValueError, ImportError) as error:
        raise cannot_load(model, error) from error
    encode = LlavaEncoder(transformers, loaded, tokenizer, images, layout, template, placeholder)
    return LocalModel(model, revision_of(model, loaded.config), loaded, encode, tokenizer, settings)


def read_layout(transformers: Any, model: str) -> Layout:
    """The flat config, or the sentence that says where such a checkpoint belongs."""
    config, _ = transformers.PreTrainedConfig.get_config_dict(model)
    if "mm_vision_tower" not in config:
        raise UserError(f"{model} is not in the original LLaVA layout: try --arch llava_hf or llava_next.")
    if config.get("mm_projector_type") != "mlp2x_gelu":
        raise UserError(
            f"{model} has the projector {config.get('mm_projector_type', 'linear')!r}; "
            "only mlp2x_gelu (LLaVA-1.5 and later) can be loaded."
        )
    tower = str(config["mm_vision_tower"])
    beside = Path(model).expanduser() / tower
    return Layout(config, str(beside) if beside.is_dir() else tower)


def _load(transformers: Any, model: str, layout: Layout, placeholder: int, pickled: bool) -> Any:
    """The library's LLaVA with this checkpoint's weights, and the tower's own where it has none."""
    config = _config(transformers, layout, placeholder)
    kind = "LlavaNextForConditionalGeneration" if layout.anyres else "LlavaForConditionalGeneration"
    loaded, report = getattr(transformers, kind).from_pretrained(
        model, config=config, key_mapping=NEW_NAMES, output_loading_info=True, **loading(pickled)
    )
    missing = set(report["missing_keys"])
    towers = {key for key in missing if key.startswith("model.vision_tower.")}
    if missing - towers:
        raise UserError(f"{model} lacks weights, such as {min(missing - towers)}: it is no whole checkpoint.")
    if towers:
        tower = transformers.CLIPVisionModel.from_pretrained(
            layout.tower, **loading(pickled) | {"dtype": loaded.dtype, "device_map": None}
        )
        loaded.model.vision_tower.load_state_dict(tower.state_dict())
    return loaded


def _config(transformers: Any, layout: Layout, placeholder: int) -> Any:
    flat = layout.config
    family = " ".join([*flat.get("architectures", []), flat.get("model_type", "")]).lower()
    name = next((name for mark, name in reversed(LANGUAGE_MODELS.items()) if mark in family), "LlamaConfig")
    ours = {key: value for key, value in flat.items() if not key.startswith(("mm_", "model_type", "image_"))}
    kind = "LlavaNextConfig" if layout.anyres else "LlavaConfig"
    pinpoints = {"image_grid_pinpoints": flat["image_grid_pinpoints"]} if layout.anyres else {}
    return getattr(transformers, kind)(
        vision_config=transformers.CLIPVisionConfig.from_pretrained(layout.tower),
        text_config=getattr(transformers, name)(**ours),
        image_token_index=placeholder,
        vision_feature_layer=flat.get("mm_vision_select_layer", -2),
        vision_feature_select_strategy=_strategy(layout),
        tie_word_embeddings=bool(flat.get("tie_word_embeddings", False)),
        **pinpoints,
    )


def _strategy(layout: Layout) -> str:
    return "full" if layout.config.get("mm_vision_select_feature") == "cls_patch" else "default"


def _placeholder(tokenizer: Any) -> int:
    """A token that no text is made of, to hold the picture's place: its own embedding is never read."""
    specials = [token for token, added in tokenizer.added_tokens_decoder.items() if added.special]
    taken = {tokenizer.bos_token_id, tokenizer.eos_token_id, None}
    candidates = (tokenizer.unk_token_id, tokenizer.pad_token_id, *specials)
    found = next((token for token in candidates if token not in taken), None)
    if found is None:
        raise UserError("The checkpoint's tokenizer has no special token to hold a picture's place.")
    return int(found)


def _image_processor(transformers: Any, layout: Layout) -> Any:
    tower = transformers.AutoImageProcessor.from_pretrained(layout.tower)
    if not layout.anyres:
        return tower
    return transformers.LlavaNextImageProcessorPil(
        size=dict(tower.size),
        crop_size=dict(tower.crop_size),
        image_mean=tower.image_mean,
        image_std=tower.image_std,
        image_grid_pinpoints=layout.config["image_grid_pinpoints"],
    )


class LlavaEncoder:
    """Prompts as the original code tokenises them: the text around the picture piece by piece."""

    def __init__(
        self,
        transformers: Any,
        model: Any,
        tokenizer: Any,
        images: Any,
        layout: Layout,
        conversation: str,
        placeholder: int,
    ) -> None:
        self.tokenizer, self.images, self.layout = tokenizer, images, layout
        self.conversation, self.placeholder = conversation, placeholder
        kind = "LlavaNextProcessor" if layout.anyres else "LlavaProcessor"
        self._counter = getattr(transformers, kind)(  # knows how many tokens a picture takes
            images,
            tokenizer,
            patch_size=model.config.vision_config.patch_size,
            vision_feature_select_strategy=_strategy(layout),
            num_additional_image_tokens=1,
        )

    def __call__(self, prompts: Sequence[Prompt]) -> Any:
        """Tensors of a batch, padded on the left."""
        import torch
        from transformers import BatchEncoding

        pictures = [self._squared(picture) for _, picture in prompts if picture is not None]
        shown = dict(self.images(images=pictures, return_tensors="pt")) if pictures else {}
        rows, at = [], 0
        for question, picture in prompts:
            text = converse(self.conversation, question, picture is not None, self.layout.markers)
            rows.append(self._ids(text, self._tokens(shown, at) if picture is not None else 0))
            at += picture is not None
        width = max(map(len, rows))
        ids = [[self.tokenizer.eos_token_id] * (width - len(row)) + row for row in rows]
        mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
        return BatchEncoding({"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), **shown})

    def _tokens(self, shown: dict[str, Any], at: int) -> int:
        replaced = self._counter.replace_image_token(shown, at)
        return len(replaced) // len(self._counter.image_token)

    def _ids(self, prompt: str, image_tokens: int) -> list[int]:
        """The first piece keeps its beginning-of-text token; every other piece loses it."""
        first, *others = (self.tokenizer(piece)["input_ids"] for piece in prompt.split(IMAGE))
        ids = self._without_placeholder(first)
        for piece in others:
            begins = piece[:1] == [self.tokenizer.bos_token_id]
            ids += [self.placeholder] * image_tokens + self._without_placeholder(piece[begins:])
        return ids

    def _without_placeholder(self, ids: list[int]) -> list[int]:
        return [token for token in ids if token != self.placeholder]

    def _squared(self, picture: Picture) -> Picture:
        """The picture on a square of the tower's mean colour, where the checkpoint was trained so."""
        from PIL import Image

        if self.layout.config.get("image_aspect_ratio") != "pad" or picture.width == picture.height:
            return picture
        side = max(picture.size)
        mean = tuple(int(255 * share) for share in self.images.image_mean)
        square = Image.new("RGB", (side, side), mean)
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        return square
