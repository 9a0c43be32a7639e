"""A cross-encoder made of an embedder: its own encoder, changed by a little, reads two texts at once.

An embedder reads a query and a description apart; a cross-encoder reads each word of one beside every word of
the other (Nogueira and Cho, 2019). What it adds to the embedder's weights has a low rank (LoRA; Hu et al., ICLR
2022), so that a folder of PEFT's format, under a megabyte, is all there is to ship.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.batches import batches_by_length
from data.errors import UserError

if TYPE_CHECKING:
    from torch import dtype

Pair = tuple[str, str]

WEIGHTS = "adapter_model.safetensors"
MOST_TOKENS = 256  # of both texts together; the longer one loses its end
BATCH_CHARACTERS = 24_576  # of pairs of like length, read at once
BATCH_PAIRS = 256


class Adapter(NamedTuple):
    """Weights that make a cross-encoder of an embedder."""

    folder: Path
    digest: str  # of the weights: readings are kept under it


def find_adapter(folder: Path) -> Adapter:
    """The adapter in a folder that `python -m audit.cross_encoder` wrote."""
    try:
        return Adapter(folder, hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest())
    except OSError as error:
        raise UserError(
            f"{folder} holds no cross-encoder ({WEIGHTS}): train one with `python -m audit.cross_encoder`."
        ) from error


class CrossEncoder:
    """One embedder's encoder with an adapter's weights merged into it."""

    def __init__(self, model_path: str, folder: Path, precision: dtype) -> None:
        model, self._tokenizer = load_classifier(model_path)
        _merge(model, folder)
        self._model = model.to(precision).eval()

    def read(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        """(n,) log odds, in the order of the pairs."""
        import torch

        odds = np.zeros(len(pairs), np.float32)
        lengths = [len(first) + len(second) for first, second in pairs]
        with torch.inference_mode():
            for rows in batches_by_length(lengths, BATCH_PAIRS, BATCH_CHARACTERS):
                inputs = tokenized(self._tokenizer, [pairs[row] for row in rows]).to(self._model.device)
                odds[rows] = self._model(**inputs).logits[:, 0].float().cpu().numpy()
        return odds


def _merge(model: Any, folder: Path) -> None:
    """Adds an adapter to a model's weights: W + scale B A for every changed map, and the head as it is.

    PEFT does the same, and takes seconds to be imported.
    """
    import torch
    from safetensors.torch import load_file

    try:
        facts = json.loads((folder / "adapter_config.json").read_text())
        scale = facts["lora_alpha"] / facts["r"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'adapter_config.json'} does not say how to read {WEIGHTS}.") from error
    change = {
        name.removeprefix("base_model.model."): value for name, value in load_file(folder / WEIGHTS).items()
    }
    weights = model.state_dict()
    with torch.no_grad():
        for name, value in change.items():
            changed, first, _ = name.partition(".lora_A.")
            if first:
                product = change[f"{changed}.lora_B.weight"].float() @ value.float()
                weights[f"{changed}.weight"] += scale * product.to(model.device)
            elif ".lora_B." not in name:
                weights[name].copy_(value)


def load_classifier(model_path: str) -> tuple[Any, Any]:
    """An embedder's encoder with a head of one number, not trained yet, and its tokenizer."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # "some weights are new": the head, which the adapter brings
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = AutoModelForSequenceClassification.from_pretrained(
                model_path, num_labels=1, use_safetensors=True
            )
        tokenizer = AutoTokenizer.from_pretrained(model_path)
    finally:
        logging.set_verbosity(before)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def tokenized(tokenizer: Any, pairs: Sequence[Pair]) -> Any:
    """Both texts of every pair in one row, padded to the longest."""
    first, second = zip(*pairs, strict=True)
    return tokenizer(
        list(first),
        list(second),
        padding=True,
        truncation="longest_first",
        max_length=MOST_TOKENS,
        return_tensors="pt",
    )
