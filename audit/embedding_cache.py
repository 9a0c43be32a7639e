"""What an embedder said of a text, kept on disk: a second audit of the same texts embeds nothing.

One SQLite file per embedder, precision and probes; a row is a text's digest, its vector in float16 and its
readings in float32, so no text is written. Another file keeps the log odds of pairs, one per cross-encoder. What
is returned is always what was stored: a first audit and a second agree to the last digit.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from audit.watch import WatchedEmbedder
from data.cross_encoder import Adapter, Pair
from data.embedders import Embedder, LayeredEmbedder, Odds, Vectors
from data.errors import UserError

MOST_TEXTS = 3_000_000  # about 3 GB; beyond it texts are embedded and not kept
ASKED_AT_ONCE = 500  # SQLite's limit on parameters is 999 in old builds


def default_folder() -> Path:
    """Where a user's caches belong (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leakfree"


@contextmanager
def watched_and_kept(embedder: Embedder, folder: Path | None, *, fast: bool) -> Iterator[Embedder]:
    """The embedder with its progress shown and, where it shows its layers, what it says kept in `folder`."""
    if not isinstance(embedder, LayeredEmbedder):
        yield embedder
        return
    watched = WatchedEmbedder(embedder)
    if folder is None:
        yield watched
        return
    with CachedEmbedder(watched, folder, fast=fast, revision=getattr(embedder, "revision", "")) as cached:
        yield cached


class CachedEmbedder:
    """A layered embedder with its readings by one probe on disk; use as a context manager."""

    def __init__(self, embedder: LayeredEmbedder, folder: Path, *, fast: bool, revision: str = "") -> None:
        self.name = embedder.name
        self._revision = revision  # of its weights, where the name does not say it
        self._embedder = embedder
        self._folder = folder
        self._precision = "bfloat16" if fast else "float32"
        self._stores: dict[str, sqlite3.Connection] = {}

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, d) unit rows, in the order of `texts`."""
        return self._kept(texts, None)[0]

    def layers(self, texts: Sequence[str]) -> Vectors:
        """(n, l * d), from the embedder: too large to keep."""
        return self._embedder.layers(texts)

    def embed_probed(self, texts: Sequence[str], probes: Vectors) -> tuple[Vectors, Vectors]:
        """(n, d) unit rows and (n, k) layers @ `probes` (l * d, k)."""
        return self._kept(texts, probes)

    def read_together(self, pairs: Sequence[Pair], adapter: Adapter) -> Odds:
        """(n,) log odds, in the order of the pairs."""
        store = self._open(f"pairs-{adapter.digest[:12]}")
        digests = [_digest("\0".join(pair)) for pair in pairs]
        found = _fetch(store, list(dict.fromkeys(digests)))
        missing = {digest: pair for digest, pair in zip(digests, pairs, strict=True) if digest not in found}
        if missing:
            odds = self._embedder.read_together(list(missing.values()), adapter).astype(np.float32)
            fresh = {digest: each.tobytes() for digest, each in zip(missing, odds, strict=True)}
            _keep(store, fresh)
            found |= fresh
        return np.frombuffer(b"".join(found[digest] for digest in digests), np.float32)

    def close(self) -> None:
        for store in self._stores.values():
            store.close()
        self._stores.clear()

    def __enter__(self) -> CachedEmbedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _kept(self, texts: Sequence[str], probes: Vectors | None) -> tuple[Vectors, Vectors]:
        distinct = list(dict.fromkeys(texts))
        which = "unprobed" if probes is None else hashlib.blake2b(probes.tobytes(), digest_size=6).hexdigest()
        store = self._open(which)
        count = 0 if probes is None else probes.shape[1]
        digests = [_digest(text) for text in distinct]
        found = _fetch(store, digests)
        missing = [row for row, digest in enumerate(digests) if digest not in found]
        if missing:
            asked = [distinct[row] for row in missing]
            if probes is None:
                vectors, readings = self._embedder.embed(asked), np.zeros((len(asked), 0), np.float32)
            else:
                vectors, readings = self._embedder.embed_probed(asked, probes)
            stored = [
                vector.astype(np.float16).tobytes() + said.astype(np.float32).tobytes()
                for vector, said in zip(vectors, readings, strict=True)
            ]
            fresh = {digests[row]: value for row, value in zip(missing, stored, strict=True)}
            _keep(store, fresh)
            found |= fresh
        return _read([found[digest] for digest in digests], count, distinct, texts)

    def _open(self, which: str) -> sqlite3.Connection:
        safe = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in self.name)
        name = "-".join(filter(None, (safe, self._revision, self._precision, which))) + ".sqlite"
        if name not in self._stores:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                store = sqlite3.connect(self._folder / name, isolation_level=None, timeout=60)
                store.execute("PRAGMA journal_mode=WAL")
                store.execute("PRAGMA synchronous=NORMAL")
                store.execute("CREATE TABLE IF NOT EXISTS texts (digest BLOB PRIMARY KEY, said BLOB)")
            except (OSError, sqlite3.Error) as error:
                raise UserError(
                    f"Cannot keep embeddings in {self._folder}: name another folder with --cache, "
                    "or audit with --no-cache."
                ) from error
            self._stores[name] = store
        return self._stores[name]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def _fetch(store: sqlite3.Connection, digests: Sequence[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    try:
        for start in range(0, len(digests), ASKED_AT_ONCE):
            some = digests[start : start + ASKED_AT_ONCE]
            marks = ",".join("?" * len(some))
            found |= dict(store.execute(f"SELECT digest, said FROM texts WHERE digest IN ({marks})", some))  # noqa: S608
    except sqlite3.Error as error:  # a damaged file, say
        raise _stuck(error) from error
    return found


def _keep(store: sqlite3.Connection, fresh: dict[bytes, bytes]) -> None:
    try:
        if store.execute("SELECT COUNT(*) FROM texts").fetchone()[0] + len(fresh) > MOST_TEXTS:
            return
        with store:
            store.execute("BEGIN IMMEDIATE")
            store.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?)", fresh.items())
    except sqlite3.Error as error:  # a full disk, say
        raise _stuck(error) from error


def _stuck(error: sqlite3.Error) -> UserError:
    return UserError(
        f"Cannot keep embeddings ({error}): name another folder with --cache, or audit with --no-cache."
    )


def _read(
    said: Sequence[bytes], count: int, distinct: Sequence[str], texts: Sequence[str]
) -> tuple[Vectors, Vectors]:
    """Vectors and `count` readings of each of `texts` from what is stored of the distinct ones."""
    if not said:
        return np.zeros((0, 0), np.float32), np.zeros((0, count), np.float32)
    rows = np.frombuffer(b"".join(said), np.uint8).reshape(len(said), -1)
    width = rows.shape[1] - 4 * count
    vectors = np.ascontiguousarray(rows[:, :width]).view(np.float16).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    readings = np.ascontiguousarray(rows[:, width:]).view(np.float32)
    if len(texts) == len(distinct):
        return vectors, readings
    row_of = {text: row for row, text in enumerate(distinct)}
    order = [row_of[text] for text in texts]
    return vectors[order], readings[order]
