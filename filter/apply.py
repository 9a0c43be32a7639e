"""The filter as a whole: gates, near-duplicates, balance, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from data.errors import missing_package
from data.fingerprints import Look, look_at_pictures
from data.neighbours import Vectors
from data.quality import Flaw
from data.records import Audit, Pair, SubCategory
from filter.balance import quotas, reject_surplus, with_shares
from filter.duplicates import fingerprints_gate, pictures_gate, reject_repeats, texts_gate
from filter.gates import Evidence, apply_gates
from filter.settings import BalanceSettings, FilterSettings

if TYPE_CHECKING:
    from data.embedders import Embedder


class LeakScorer(Protocol):
    """Scores queries against what is known of their pictures; the auditor does."""

    def score(
        self, queries: Sequence[str], descriptions: Sequence[str | None], origins: Sequence[str] | None = None
    ) -> list[Audit]: ...


@dataclass(frozen=True)
class Tools:
    """What the filter works with."""

    folder: Path  # of the run: pictures' paths are relative to it
    embedder: Embedder
    scorer: LeakScorer | None = None  # for words read in pictures


def filter_pairs(
    pairs: Sequence[Pair],
    settings: FilterSettings,
    balance: BalanceSettings,
    taxonomy: Sequence[SubCategory],
    tools: Tools,
) -> list[Pair]:
    """The pairs in their order, with every gate's check; those that do not enter say why."""
    target = quotas(with_shares(taxonomy, balance.shares), balance.size, balance.at_least)
    looks = _look(pairs, tools.folder)
    kept = apply_gates(pairs, _evidence(pairs, looks, settings, tools))
    vectors = tools.embedder.embed([f"{pair.instruction}\n{pair.image_description}" for pair in kept])
    alike = [
        texts_gate(vectors, settings.near_duplicate),
        fingerprints_gate(looks, settings.near_duplicate_image),
    ]
    if settings.image_embedder:
        pictures = _embed_pictures(kept, settings.image_embedder, tools.folder)
        alike.append(pictures_gate(pictures, settings.near_duplicate_image_cosine))
    kept = reject_repeats(kept, alike)
    return reject_surplus(kept, vectors, target)


def _look(pairs: Sequence[Pair], folder: Path) -> list[Look]:
    """One look at each pair's picture."""
    undrawn = Look(None, Flaw("missing_image", "no picture was drawn"))
    looks = iter(look_at_pictures([folder / pair.image_path for pair in pairs if pair.image_path]))
    return [next(looks) if pair.image_path else undrawn for pair in pairs]


def _evidence(
    pairs: Sequence[Pair], looks: Sequence[Look], settings: FilterSettings, tools: Tools
) -> Evidence:
    flaws = {pair.id: look.flaw for pair, look in zip(pairs, looks, strict=True) if look.flaw}
    because = _why_unread(settings, tools)
    if because:
        return Evidence(settings, flaws, None, because)
    whole = [pair for pair in pairs if pair.id not in flaws]
    return Evidence(settings, flaws, _audit_read_words(whole, tools))


def _why_unread(settings: FilterSettings, tools: Tools) -> str:
    if settings.read_pictures == "off":
        return "not read: read_pictures is off"
    missing = [package for package in ("rapidocr", "onnxruntime") if find_spec(package) is None]
    if missing and settings.read_pictures == "on":
        raise missing_package(missing[0], "ocr")
    if missing:
        return f"not read: {missing[0]} is not installed"
    return "" if tools.scorer else "not read: no auditor at hand"


def _audit_read_words(pairs: Sequence[Pair], tools: Tools) -> dict[str, Audit]:
    """The audit of each query against the words read in its picture, where there are any."""
    from data.ocr import read_pictures

    texts = read_pictures([tools.folder / pair.image_path for pair in pairs])
    wordy = [(pair, text) for pair, text in zip(pairs, texts, strict=True) if text]
    assert tools.scorer is not None
    audits = tools.scorer.score(
        [pair.instruction for pair, _ in wordy], [text for _, text in wordy], ["ocr"] * len(wordy)
    )
    return {pair.id: audit for (pair, _), audit in zip(wordy, audits, strict=True)}


def _embed_pictures(pairs: Sequence[Pair], name: str, folder: Path) -> Vectors:
    """(n, d) a row per pair; zeros for those no longer running."""
    from data.image_embedder import load_image_embedder

    running = [row for row, pair in enumerate(pairs) if pair.rejected is None]
    embedded = load_image_embedder(name).embed_images([folder / pairs[row].image_path for row in running])
    vectors = np.zeros((len(pairs), embedded.shape[1] if len(embedded) else 1), np.float32)
    if running:
        vectors[running] = embedded
    return vectors
