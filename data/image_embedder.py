"""Pictures or texts in, unit vectors out: both sides of a CLIP or SigLIP."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.embedders import Vectors
from data.errors import UserError, missing_package
from data.quality import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

AT_ONCE = 16


class ImageEmbedder:
    """A dual encoder of transformers, from a folder or the Hub."""

    def __init__(self, name: str) -> None:
        try:
            from torch import cuda
            from transformers import AutoImageProcessor, AutoModel
        except ImportError as error:
            raise missing_package("transformers", "embed") from error
        try:
            self._model: Any = AutoModel.from_pretrained(name, use_safetensors=True).eval()
            load: Any = AutoImageProcessor.from_pretrained
            self._processor = load(name)
            self._model.to("cuda" if cuda.is_available() else "cpu")
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"The image embedder {name} cannot be loaded: {reason}") from error
        if not all(hasattr(self._model, side) for side in ("get_image_features", "get_text_features")):
            raise UserError(f"{name} is no image-text model: name a CLIP or a SigLIP.")
        self.name = name

    def embed_images(self, paths: Sequence[Path]) -> Vectors:
        """(n, d) unit rows, one per picture."""
        parts = [
            self.embed_pictures([open_picture(path) for path in paths[start : start + AT_ONCE]])
            for start in range(0, len(paths), AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)

    def embed_pictures(self, images: Sequence[Image]) -> Vectors:
        """(n, d) unit rows of decoded RGB pictures, all at once."""
        given = self._processor(images=list(images), return_tensors="pt")
        return self._unit(self._model.get_image_features, given)

    def embed_texts(self, texts: Sequence[str]) -> tuple[Vectors, NDArray[np.bool_]]:
        """(n, d) unit rows, all at once, and (n,) which texts were too long and are read in part."""
        fixed = {"padding": "max_length", "max_length": self._longest, "truncation": True}
        given = self._tokenizer(list(texts), return_tensors="pt", **fixed)
        whole = self._tokenizer(list(texts), truncation=False).input_ids
        cut = np.array([len(tokens) > self._longest for tokens in whole], np.bool_)
        return self._unit(self._model.get_text_features, given), cut

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        load: Any = AutoTokenizer.from_pretrained
        try:
            tokenizer = load(self.name)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.name} comes without a tokenizer: it cannot read queries.") from error
        tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
        return tokenizer

    @cached_property
    def _longest(self) -> int:
        """Tokens that the text side reads."""
        config = getattr(self._model.config, "text_config", self._model.config)
        return int(config.max_position_embeddings)

    def _unit(self, embed: Any, given: Any) -> Vectors:
        """Unit rows of features."""
        import torch

        with torch.inference_mode():
            made = embed(**given.to(self._model.device))
        features = made if isinstance(made, torch.Tensor) else made.pooler_output
        rows = features.float().cpu().numpy()
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def load_image_embedder(name: str) -> ImageEmbedder:
    """The image embedder called `name`, ready to embed; on a GPU where there is one."""
    return ImageEmbedder(name)
