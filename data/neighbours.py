"""Which rows repeat a better one: exact up to 20,000 rows, beyond that by an approximate index.

Rows are visited best first. A row that is like one already kept, by its text, its picture or whatever else it
is compared by, repeats it; every other row is kept. True cosines decide; the index may only overlook a neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.errors import missing_package

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

EXACT_ROWS = 20_000
BLOCK = 512
NEIGHBOURS = 8  # looked at per row by the index
SKETCH_WIDTH = 64  # dimensions the index works in; a near-duplicate stays one under projection
CELL_ROWS, CELLS_SEARCHED = 500, 32  # rows to a cell of the index; cells looked into per row
TAUGHT_BY, ROUNDS = 30, 4  # rows per cell and rounds of k-means that lay the cells out


class Likeness(NamedTuple):
    """One way of being alike: two rows of `vectors`, (n, d) and unit, whose cosine is at least `threshold`.

    `other_views`, (n, d), holds each row seen another way (a mirrored picture): the nearer view counts.
    """

    vectors: Vectors
    threshold: float
    other_views: Vectors | None = None

    def cosines(self, rows: Rows, others: Rows) -> Vectors:
        """(len(rows), len(others)) cosines, of the nearer view."""
        against = self.vectors[others].T
        cosines = self.vectors[rows] @ against
        return cosines if self.other_views is None else np.maximum(cosines, self.other_views[rows] @ against)


class Twin(NamedTuple):
    """The kept row that another one repeats, their cosine, and the place of the likeness among those asked for."""

    row: int
    cosine: float
    by: int = 0


def find_repeats(
    likenesses: Sequence[Likeness], order: Sequence[int], exact_rows: int = EXACT_ROWS
) -> dict[int, Twin]:
    """Row -> the kept row it repeats, for the rows in `order` (best first).

    One decision over all likenesses, so that no row is lost to another that is lost itself. A row that is like
    several kept ones is given the nearest by the earliest likeness.
    """
    rows = np.asarray(order, np.int64)
    return _exact(likenesses, rows) if len(rows) <= exact_rows else _approximate(likenesses, rows)


def nearest(vectors: Vectors, others: Vectors) -> tuple[Rows, Vectors]:
    """For every row of `vectors` (n, d) the nearest of `others` (m, d) and their cosine, exactly; -1 if m is 0."""
    rows, cosines = np.zeros(len(vectors), np.int64), np.full(len(vectors), -1.0, np.float32)
    if len(others):
        for start in range(0, len(vectors), BLOCK):
            part = slice(start, start + BLOCK)
            rows[part], cosines[part] = _nearest(vectors[part] @ others.T)
    return rows, cosines


def _exact(likenesses: Sequence[Likeness], rows: Rows) -> dict[int, Twin]:
    """Every row against every kept one, a block at a time."""
    kept: list[int] = []
    repeats: dict[int, Twin] = {}
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        before = len(kept)
        others = np.concatenate([np.asarray(kept, np.int64), block])
        cosines = [each.cosines(block, others) for each in likenesses]
        for place, row in enumerate(block.tolist()):
            twin = _twin(likenesses, [each[place, : before + place] for each in cosines], others)
            if twin is None:
                kept.append(row)
                continue
            repeats[row] = twin
            for each in cosines:
                each[:, before + place] = -np.inf  # nobody repeats it
    return repeats


def _twin(likenesses: Sequence[Likeness], cosines: Sequence[Vectors], others: Rows) -> Twin | None:
    """The nearest of the others by the first likeness by which any is near; `cosines` has (m,) for each."""
    for by, (likeness, each) in enumerate(zip(likenesses, cosines, strict=True)):
        if len(each) and each[best := int(each.argmax())] >= likeness.threshold:
            return Twin(int(others[best]), float(each[best]), by)
    return None


def _nearest(cosines: Vectors) -> tuple[Rows, Vectors]:
    """Per row the nearest column and its cosine; zeros where there are no columns."""
    if not cosines.shape[1]:
        return np.zeros(len(cosines), np.int64), np.zeros(len(cosines), np.float32)
    nearest = cosines.argmax(axis=1)
    return nearest, cosines[np.arange(len(cosines)), nearest]


def _approximate(likenesses: Sequence[Likeness], rows: Rows) -> dict[int, Twin]:
    """The same decisions over the neighbours that an index finds.

    A row with as many near neighbours as were looked at may have a kept twin beyond them: such rows, few
    in number, are compared once more with each other until nothing changes.
    """
    repeats: dict[int, Twin] = {}
    left = rows
    while True:
        near = _near_neighbours(likenesses, left)
        found = _visit(left, near)
        repeats |= found
        crowded = [row for row in left.tolist() if row not in repeats and near.crowded(row)]
        if not found or len(crowded) < 2:
            break
        left = np.asarray(crowded, np.int64)
        if len(left) <= EXACT_ROWS:
            repeats |= _exact(likenesses, left)
            break
    return _repeat_kept_ones(likenesses, rows, repeats)


def _repeat_kept_ones(
    likenesses: Sequence[Likeness], rows: Rows, repeats: dict[int, Twin]
) -> dict[int, Twin]:
    """The repeats, those of a row that later came to repeat another decided anew against every kept row."""
    lost = np.asarray(
        [row for row in rows.tolist() if row in repeats and repeats[row].row in repeats], np.int64
    )
    kept = np.asarray([row for row in rows.tolist() if row not in repeats], np.int64)
    repeats = {row: twin for row, twin in repeats.items() if twin.row not in repeats}
    for some in np.split(lost, range(BLOCK, len(lost), BLOCK)):
        for others in np.split(kept, range(EXACT_ROWS, len(kept), EXACT_ROWS)):
            for by, each in enumerate(likenesses):
                nearest, cosine = _nearest(each.cosines(some, others))
                for place in np.flatnonzero(cosine >= each.threshold):
                    twin = Twin(int(others[nearest[place]]), float(cosine[place]), by)
                    before = repeats.setdefault(int(some[place]), twin)
                    repeats[int(some[place])] = min(before, twin, key=_foremost)
    alone = np.asarray([row for row in lost.tolist() if row not in repeats], np.int64)
    return repeats | _exact(likenesses, alone)


def _foremost(twin: Twin) -> tuple[int, float]:
    """Sorts twins: the earlier likeness first, then the nearer."""
    return twin.by, -twin.cosine


class _Near(NamedTuple):
    """The near neighbours of each row, both ways: those it found, and those that found it."""

    of: dict[int, list[Twin]]
    full: set[int]

    def crowded(self, row: int) -> bool:
        return row in self.full


def _visit(rows: Rows, near: _Near) -> dict[int, Twin]:
    """Best first: a row repeats the nearest of its neighbours that are kept."""
    kept: set[int] = set()
    repeats: dict[int, Twin] = {}
    for row in rows.tolist():
        twins = [twin for twin in near.of.get(row, ()) if twin.row in kept]
        if twins:
            repeats[row] = min(twins, key=_foremost)
        else:
            kept.add(row)
    return repeats


def _near_neighbours(likenesses: Sequence[Likeness], rows: Rows) -> _Near:
    """Candidates from an index over a random projection, confirmed by their true cosines."""
    near = _Near({}, set())
    for by, (vectors, threshold, other_views) in enumerate(likenesses):
        cells = _Cells(vectors, rows)
        for views in (vectors,) if other_views is None else (vectors, other_views):
            for start in range(0, len(rows), BLOCK):
                block = rows[start : start + BLOCK]
                found = cells.search(views[block])
                cosines = (vectors[found] @ views[block][:, :, None])[..., 0]
                _note(near, block, found, cosines, threshold, by)
    return near


def _note(near: _Near, block: Rows, found: Rows, cosines: Vectors, threshold: float, by: int) -> None:
    close = (cosines >= threshold) & (found != block[:, None]) & (found >= 0)
    for place, at in zip(*np.nonzero(close), strict=True):
        row, twin, cosine = int(block[place]), int(found[place, at]), float(cosines[place, at])
        near.of.setdefault(row, []).append(Twin(twin, cosine, by))
        near.of.setdefault(twin, []).append(Twin(row, cosine, by))
    near.full.update(block[close.sum(axis=1) >= NEIGHBOURS].tolist())


class _Cells:
    """Rows in cells of alike ones, as a random projection shows them, two dimensions to four bits (faiss).

    One thread lays them out, so that they are the same every time. Near-duplicates share a cell or lie in
    cells next to each other; cells of one size keep the work per row the same however many rows there are.
    """

    def __init__(self, vectors: Vectors, rows: Rows) -> None:
        try:
            import faiss
        except ImportError as error:
            raise missing_package("faiss-cpu", "dedupe") from error
        wide = vectors.shape[1]
        narrow = min(SKETCH_WIDTH, wide // 2 * 2)
        normal = np.random.default_rng(0).standard_normal((wide, narrow))
        self._directions = np.linalg.qr(normal)[0].astype(np.float32)
        self._center = vectors[rows[:EXACT_ROWS]].mean(axis=0)
        self._rows = rows
        cells = max(len(rows) // CELL_ROWS, 1)
        middles, metric = faiss.IndexFlatIP(narrow), faiss.METRIC_INNER_PRODUCT
        self._index = faiss.IndexIVFPQFastScan(middles, narrow, cells, narrow // 2, 4, metric)
        self._index.by_residual, self._index.nprobe = False, CELLS_SEARCHED
        self._index.cp.niter, self._index.cp.min_points_per_centroid = ROUNDS, 1
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        step = max(len(rows) // (cells * TAUGHT_BY), 1)
        self._index.train(self._project(vectors[rows[::step]]))
        for start in range(0, len(rows), EXACT_ROWS):
            self._index.add(self._project(vectors[rows[start : start + EXACT_ROWS]]))
        faiss.omp_set_num_threads(threads)

    def _project(self, some: Vectors) -> Vectors:
        flat = (some - self._center) @ self._directions
        return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9), np.float32)

    def search(self, some: Vectors) -> Rows:
        """(len(some), NEIGHBOURS + 1) rows near to each; -1 where its cells hold no more."""
        places = self._index.search(self._project(some), NEIGHBOURS + 1)[1]
        return np.where(places < 0, -1, self._rows[places]).astype(np.int64)
