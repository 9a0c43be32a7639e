"""Pictures in, unit vectors out: the image side of a CLIP or SigLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.embedders import Vectors
from data.errors import UserError, missing_package
from data.quality import open_picture

AT_ONCE = 16


class ImageEmbedder:
    """A dual encoder of transformers, from a folder or the Hub."""

    def __init__(self, name: str) -> None:
        try:
            from transformers import AutoImageProcessor, AutoModel
        except ImportError as error:
            raise missing_package("transformers", "embed") from error
        try:
            self._model: Any = AutoModel.from_pretrained(name, use_safetensors=True).eval()
            load: Any = AutoImageProcessor.from_pretrained
            self._processor = load(name)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"The image embedder {name} cannot be loaded: {reason}") from error
        if not hasattr(self._model, "get_image_features"):
            raise UserError(f"{name} is no image-text model: name a CLIP or a SigLIP.")
        self.name = name

    def embed_images(self, paths: Sequence[Path]) -> Vectors:
        """(n, d) unit rows, one per picture."""
        import torch

        rows: list[Vectors] = []
        for start in range(0, len(paths), AT_ONCE):
            images = [open_picture(path) for path in paths[start : start + AT_ONCE]]
            with torch.no_grad():
                made = self._model.get_image_features(**self._processor(images=images, return_tensors="pt"))
            features = made if isinstance(made, torch.Tensor) else made.pooler_output
            rows.append(features.float().numpy())
        if not rows:
            return np.zeros((0, 1), np.float32)
        vectors = np.concatenate(rows)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def load_image_embedder(name: str) -> ImageEmbedder:
    """The image embedder called `name`, ready to embed."""
    return ImageEmbedder(name)
