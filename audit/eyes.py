"""The flags that say what pictures are looked at with, and what they stand for, opened for one audit."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import UserError, missing_package

if TYPE_CHECKING:
    from audit.captions import Captioner
    from audit.descriptions import Content, Eyes
    from audit.likeness import Likeness
    from audit.pictures import Look, Looker
    from data.llm.cache import ResponseCache
    from data.sources.source_rows import SourceRow

LOCAL = "hf:"
CAPTION_TOKENS = 1024  # a server's reply at most: some models think before they speak


def add_flags(parser: argparse.ArgumentParser) -> None:
    """How the content of pictures that nobody described is found out."""
    group = parser.add_argument_group("pictures without a description")
    add = group.add_argument
    add("--image-root", type=Path, metavar="DIR",
        help="folder of the images, where they lie apart from the data (default: the data's own)")  # fmt: skip
    add("--ocr", choices=("auto", "on", "off"), default="auto",
        help="read the words in pictures (default: auto, where rapidocr is installed)")  # fmt: skip
    add("--captioner", metavar="MODEL",
        help="a multimodal model that says what they show: a server's, or hf:FOLDER_OR_ID")  # fmt: skip
    add("--captioner-url", metavar="URL", help="its OpenAI-compatible server (default: OpenAI's)")
    add(
        "--pickled-weights",
        action="store_true",
        help="of --captioner hf:...: load weights that are no safetensors, trusted ones only",
    )
    add(
        "--retry-failed",
        action="store_true",
        help="ask again for captions that were refused or failed for good",
    )
    add_cache_flags(parser)


def add_cache_flags(parser: argparse.ArgumentParser) -> None:
    """Where what models say is kept."""
    parser.add_argument(
        "--cache", type=Path, metavar="DIR",
        help="where embeddings and captions are kept (default: the user's cache folder)",
    )  # fmt: skip
    parser.add_argument("--no-cache", action="store_true", help="keep neither")


def cache_folder(arguments: argparse.Namespace) -> Path | None:
    """The folder that `add_cache_flags` asks for; None for none."""
    from audit.embedding_cache import default_folder

    return None if arguments.no_cache else arguments.cache or default_folder()


def check(arguments: argparse.Namespace) -> None:
    """Raise `UserError` for what cannot be, before anything is read."""
    root, captioner = arguments.image_root, arguments.captioner or ""
    if root is not None and not root.is_dir():
        raise UserError(f"--image-root names a folder; there is none at {root}.")
    if arguments.captioner_url and (not captioner or captioner.startswith(LOCAL)):
        raise UserError("--captioner-url is where a server's --captioner answers: name that MODEL too.")
    if arguments.pickled_weights and not captioner.startswith(LOCAL):
        raise UserError(
            "--pickled-weights are those of a local --captioner: name it too, as hf:FOLDER_OR_ID."
        )


def names(arguments: argparse.Namespace) -> dict[str, str]:
    """What pictures were looked at with, for the record."""
    asked = {
        "captioner": arguments.captioner,
        "captioner url": arguments.captioner_url,
        "image similarity": arguments.image_similarity,
    }
    return {"ocr": arguments.ocr} | {name: model for name, model in asked.items() if model}


@contextmanager
def opened(arguments: argparse.Namespace) -> Iterator[Eyes]:
    """What the flags ask for. Models load when there is a picture that they have not seen."""
    from audit.descriptions import Eyes
    from data.ocr import missing_reader

    missing = missing_reader()
    if missing and arguments.ocr == "on":
        raise missing_package(missing, "ocr")
    blind = "OCR is off" if arguments.ocr == "off" else f"{missing} is not installed" if missing else ""
    cache = _cache(arguments)
    try:
        captioner = _captioner(arguments, cache) if arguments.captioner else None
        yield Eyes(cache, None if blind else _word_reader(), captioner, blind)
    finally:
        cache.close()


def _cache(arguments: argparse.Namespace) -> ResponseCache:
    from audit.pictures import FILE
    from data.llm.cache import ResponseCache

    folder = cache_folder(arguments)
    if folder is None:
        return ResponseCache(":memory:")
    try:
        return ResponseCache(folder / FILE)
    except OSError as error:
        raise UserError(
            f"Cannot keep captions in {folder}: name another folder with --cache, or audit with --no-cache."
        ) from error


def _word_reader() -> Looker:
    from importlib.metadata import version

    from audit.pictures import Looker
    from data.ocr import CORES, MAX_PIXELS, WordReaders

    def load() -> Look:
        readers = WordReaders()
        return lambda images: [reading.model_dump_json() for reading in readers.read(images)]

    return Looker(f"rapidocr {version('rapidocr')}", load, batch_size=2 * CORES, max_pixels=MAX_PIXELS)


def _captioner(arguments: argparse.Namespace, cache: ResponseCache) -> Captioner:
    from audit.captions import TIMEOUT_SECONDS, ChatCaptioner, LocalCaptioner
    from data.llm.chat import Asker
    from data.llm.openai_chat import OpenAIChat
    from data.llm.prices import find_price

    model = arguments.captioner
    if model.startswith(LOCAL):
        return LocalCaptioner(model.removeprefix(LOCAL), cache, pickled=arguments.pickled_weights)
    chat = OpenAIChat(model, arguments.captioner_url, "OPENAI_API_KEY", TIMEOUT_SECONDS, memory=cache)
    asker = Asker(
        chat, cache, temperature=0.0, max_tokens=CAPTION_TOKENS, price=find_price(model),
        retry_failed=arguments.retry_failed,
    )  # fmt: skip
    return ChatCaptioner(asker)


def compared(rows: Sequence[SourceRow], contents: Sequence[Content], likeness: Likeness) -> list[Content]:
    """The contents with how alike query and picture are, by a CLIP or SigLIP."""
    paths = [Path(row.image) if row.image else None for row in rows]
    alike = likeness.measure([row.query for row in rows], paths)
    return [
        content._replace(similarity=z, note="; ".join(filter(None, (content.note, note))))
        for content, (z, note) in zip(contents, alike, strict=True)
    ]
