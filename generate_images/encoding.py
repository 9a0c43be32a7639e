"""Prompts to embeddings, ahead of drawing: long prompts are read in pieces, and never cut without a word."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

FOUR = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
TWO = ("prompt_embeds", "negative_prompt_embeds")
RETURNS = {  # what `encode_prompt` of each class returns, by the names its `__call__` takes
    "StableDiffusion3Pipeline": FOUR,
    "StableDiffusionXLPipeline": FOUR,
    "StableDiffusionPipeline": TWO,
    "LatentConsistencyModelPipeline": ("prompt_embeds",),  # it is guided without a negative prompt
    "FluxPipeline": ("prompt_embeds", "pooled_prompt_embeds"),
}
IN_PIECES = ("StableDiffusionXLPipeline", "StableDiffusionPipeline", "LatentConsistencyModelPipeline")
T5 = {"StableDiffusion3Pipeline": "_3", "FluxPipeline": "_2"}  # how its tokenizer's and encoder's names end
TOGETHER = 8  # prompts encoded at once
NO_LIMIT = 100_000  # tokenizers without a limit give an absurdly large one

Tensors = dict[str, "torch.Tensor"]


class Reading(NamedTuple):
    """How a prompt will be read: in which pieces, with how many T5 tokens, and what to say of it."""

    pieces: tuple[str, ...]
    tokens: int | None = None  # the `max_sequence_length` to encode with
    note: str = ""
    cut: bool = False  # part of it reaches no encoder at all


class Encoded(NamedTuple):
    """A prompt's embeddings in main memory (each (1, ...)); drawings of one `shape` fit into one batch."""

    tensors: Tensors
    shape: tuple[int, ...] = ()


def read(pipe: Any, prompt: str, tokens: int | None, longest: int) -> Reading:
    """How the pipeline's encoders can read the whole prompt, if they can."""
    family = type(pipe).__name__
    if has_t5(pipe):
        return _read_t5(getattr(pipe, f"tokenizer{T5[family]}"), prompt, tokens or 256, longest)
    tokenizers = [each for name in ("tokenizer", "tokenizer_2") if (each := getattr(pipe, name, None))]
    limit = min((each.model_max_length for each in tokenizers), default=NO_LIMIT)
    if family not in RETURNS:  # given its prompts as text, of which it may read less than its tokenizer can
        limit = min(limit, _longest_text(pipe, tokens))
    length = max((_length(each, prompt) for each in tokenizers), default=0)
    if length <= limit or limit >= NO_LIMIT:
        return Reading((prompt,))
    if family in IN_PIECES:
        pieces = _pieces(prompt, tokenizers, limit)
        return Reading(pieces, note=f"{length} tokens, read in {len(pieces)} pieces of at most {limit}")
    return Reading((prompt,), note=f"cut: the encoder reads {limit} of {length} tokens", cut=True)


def _longest_text(pipe: Any, asked: int | None) -> int:
    """Tokens that a pipeline reads of a prompt: as asked for, where it can be asked, or its own choice."""
    known = inspect.signature(pipe.__call__).parameters.get("max_sequence_length")
    return NO_LIMIT if known is None else asked or known.default or NO_LIMIT


def has_t5(pipe: Any) -> bool:
    """Whether a T5 encoder reads along; SD-3 can do without, with its tokenizer still there."""
    ending = T5.get(type(pipe).__name__)
    parts = (f"tokenizer{ending}", f"text_encoder{ending}")
    return ending is not None and all(getattr(pipe, part, None) is not None for part in parts)


def _read_t5(tokenizer: Any, prompt: str, tokens: int, longest: int) -> Reading:
    """A T5 encoder reads long prompts; CLIP beside it sees the beginning, which is how it was trained."""
    length = _length(tokenizer, prompt)
    if length <= tokens:
        return Reading((prompt,), tokens)
    tokens = max(tokens, longest)
    if length <= tokens:
        return Reading((prompt,), tokens, f"{length} tokens: the T5 encoder was given {tokens}")
    note = f"cut: the T5 encoder reads {tokens} of {length} tokens"
    return Reading((prompt,), tokens, note, cut=True)


def _length(tokenizer: Any, text: str) -> int:
    """Tokens with those that begin and end a text."""
    return len(tokenizer(text, truncation=False).input_ids)


def _pieces(prompt: str, tokenizers: Sequence[Any], limit: int) -> tuple[str, ...]:
    """The prompt's words in as few pieces as every tokenizer can take; a monstrous word is split itself."""
    pieces, piece = [], ""
    for word in re.findall(r"\s*\S{1,18}", prompt):  # 18 characters are never more than 75 tokens
        if piece and max(_length(each, piece + word) for each in tokenizers) > limit:
            pieces.append(piece.strip())
            piece = ""
        piece += word
    return (*pieces, piece.strip())


def encode(
    pipe: Any, readings: Sequence[Reading], negative: str, guidance: float, together: int = TOGETHER
) -> list[Encoded]:
    """Embeddings for each reading; pipelines that can only be given text get text, later."""
    if type(pipe).__name__ not in RETURNS:
        return [Encoded({}) for _ in readings]
    unguided: dict[int | None, Tensors] = {}
    encoded: list[Encoded | None] = [None] * len(readings)
    for tokens in dict.fromkeys(reading.tokens for reading in readings):
        places = [place for place, reading in enumerate(readings) if reading.tokens == tokens]
        flat = [piece for place in places for piece in readings[place].pieces]
        embeddings = iter(_encode_texts(pipe, flat, tokens, together))
        unguided[tokens] = _encode_negative(pipe, negative, tokens) if guidance > 1 else {}
        for place in places:
            own = [next(embeddings) for _ in readings[place].pieces]
            encoded[place] = _join(own, unguided[tokens])
    return [each for each in encoded if each is not None]


def _encode_texts(pipe: Any, texts: Sequence[str], tokens: int | None, together: int) -> list[Tensors]:
    """One (1, ...) entry per text."""
    made: list[Tensors] = []
    for start in range(0, len(texts), together):
        some = list(texts[start : start + together])
        tensors = _call_encoder(pipe, some, tokens, guided=False)
        for place in range(len(some)):
            made.append({name: tensor[place : place + 1] for name, tensor in tensors.items()})
    return made


def _encode_negative(pipe: Any, negative: str, tokens: int | None) -> Tensors:
    """The embeddings that guidance leads away from: made once for all prompts."""
    tensors = _call_encoder(pipe, [""], tokens, guided=True, negative=negative or None)
    return {name: tensor for name, tensor in tensors.items() if name.startswith("negative_")}


def _call_encoder(
    pipe: Any, texts: list[str], tokens: int | None, guided: bool, negative: str | None = None
) -> Tensors:
    """`encode_prompt` with what this class's takes; results by name, in main memory."""
    import torch

    taken = inspect.signature(pipe.encode_prompt).parameters
    offered: dict[str, Any] = {
        "prompt": texts, "prompt_2": None, "prompt_3": None, "device": pipe._execution_device,
        "num_images_per_prompt": 1, "do_classifier_free_guidance": guided,
        "negative_prompt": negative and [negative] * len(texts),
    }  # fmt: skip
    if tokens is not None:
        offered["max_sequence_length"] = tokens
    with torch.no_grad():
        returned = pipe.encode_prompt(**{name: value for name, value in offered.items() if name in taken})
    names = RETURNS[type(pipe).__name__]
    made = zip(names, returned, strict=False)  # FLUX adds position ids, which it makes again itself
    return {name: tensor.cpu() for name, tensor in made if tensor is not None}


def _join(pieces: Sequence[Tensors], negative: Tensors) -> Encoded:
    """Pieces one behind the other; the negative prompt as often; pooled from the first piece."""
    import torch

    tensors = dict(pieces[0])
    tensors["prompt_embeds"] = torch.cat([piece["prompt_embeds"] for piece in pieces], dim=1)
    tensors |= negative
    if "negative_prompt_embeds" in negative and len(pieces) > 1:  # else all prompts share one in memory
        tensors["negative_prompt_embeds"] = negative["negative_prompt_embeds"].repeat(1, len(pieces), 1)
    return Encoded(tensors, tuple(tensors["prompt_embeds"].shape))
