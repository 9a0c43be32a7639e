"""Image-text similarity by CLIP or SigLIP, from a folder or the Hub; long descriptions are read in parts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import UserError, missing_package

IMAGES_AT_ONCE = 16


class ImageTextModel:
    """A dual encoder of transformers: `similarity` is the cosine of picture and text.

    CLIP reads 77 tokens and SigLIP 64, so a description goes in sentence by sentence, and the mean of
    the cosines counts: every part of it should be in the picture.
    """

    def __init__(self, model: str, device: str = "auto") -> None:
        try:
            from transformers import AutoModel, AutoProcessor
        except ImportError as error:
            raise missing_package("transformers", "draw") from error
        from generate_images.placement import pick_device

        self.name = Path(model).expanduser().name if Path(model).expanduser().is_dir() else model
        try:
            self._model: Any = AutoModel.from_pretrained(model, use_safetensors=True).eval()
            load: Any = AutoProcessor.from_pretrained
            self._processor = load(model)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"The similarity model {model} cannot be loaded: {reason}") from error
        if not all(hasattr(self._model, side) for side in ("get_image_features", "get_text_features")):
            raise UserError(f"{model} is no image-text model: name a CLIP or a SigLIP.")
        self._device = pick_device(device)
        self._model.to(self._device)
        self._limit = int(self._model.config.text_config.max_position_embeddings)

    def similarity(self, images: Sequence[Path], texts: Sequence[str]) -> list[float]:
        """One cosine per picture and its text, -1 to 1."""
        scores: list[float] = []
        for start in range(0, len(images), IMAGES_AT_ONCE):
            some = slice(start, start + IMAGES_AT_ONCE)
            parts = [self._parts(text) for text in texts[some]]
            pictures = self._embed_images(images[some])
            flat = self._embed_texts([part for own in parts for part in own])
            ends = np.cumsum([len(own) for own in parts])
            for picture, own in zip(pictures, np.split(flat, ends[:-1]), strict=True):
                scores.append(float((own @ picture).mean()))
        return scores

    def _parts(self, text: str) -> list[str]:
        """Sentences, and those that are too long word by word in as few parts as fit."""
        parts: list[str] = []
        for sentence in re.split(r"(?<=[.!?;])\s+", text.strip()) or [text]:
            part = ""
            for word in sentence.split():
                longer = f"{part} {word}".strip()
                if part and len(self._processor.tokenizer(longer).input_ids) > self._limit:
                    parts.append(part)
                    longer = word
                part = longer
            parts.append(part)
        return parts

    def _embed_images(self, paths: Sequence[Path]) -> np.ndarray[Any, Any]:
        from PIL import Image

        images = [Image.open(path).convert("RGB") for path in paths]
        given = self._processor(images=images, return_tensors="pt").to(self._device)
        return self._unit(self._model.get_image_features, given)

    def _embed_texts(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        fixed = {"padding": "max_length", "max_length": self._limit, "truncation": True}
        given = self._processor(text=list(texts), return_tensors="pt", **fixed).to(self._device)
        return self._unit(self._model.get_text_features, given)

    def _unit(self, embed: Any, given: Any) -> np.ndarray[Any, Any]:
        """Unit rows of features."""
        import torch

        with torch.no_grad():
            made = embed(**given)
        features = made if isinstance(made, torch.Tensor) else made.pooler_output
        rows = features.float().cpu().numpy()
        unit: np.ndarray[Any, Any] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit
