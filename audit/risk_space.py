"""The fit of a risk space: a linear map of sentence vectors that keeps of a text what it tells of a risk.

In the space a query that names a picture's risk lies near every view of that picture, in whatever words;
a query that shares harmless things with the picture does not. It is learned by contrast over pictures
with several views and queries of both kinds (CLIP's objective with labels; Radford et al., ICML 2021).
A view is learned whole and read by passages: learning by passages too changed nothing (AUROC .852, .852).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from audit.calibrations import RiskSpace
from audit.features import Floats
from audit.labelled import LabelledPair
from audit.spans import bare_description
from data.embedders import Embedder

if TYPE_CHECKING:
    from torch import Tensor

WIDTH = 64  # numbers a text has in the space
EPOCHS = 80
BATCH = 256  # queries, each beside one view of every other's picture
KEPT = 0.5  # share of the embedder's numbers that a step sees
DECAY = 0.3
LEARNING_RATE = 2e-3
OTHERS_WEIGHT = 0.5  # of all other pictures of a batch together, against the query's own
SLACK = 0.02  # no label is trusted beyond this


class _Texts(NamedTuple):
    """Queries with their labels, views, and which picture each belongs to, as tensors."""

    queries: Tensor  # (q, d)
    leaks: Tensor  # (q,)
    picture: Tensor  # (q,)
    views: Tensor  # (v, d)
    views_of: list[list[int]]  # of every picture, rows of its views
    topic: Tensor  # (p,) of every picture


def fit_risk_space(embedder: Embedder, pairs: Sequence[LabelledPair]) -> RiskSpace | None:
    """The space of the pairs whose picture is known by name; None where there are none."""
    known = [pair for pair in pairs if pair.picture]
    if not known:
        return None
    queries = list({(pair.query, pair.picture): pair for pair in known}.values())
    views = list({(pair.image_description, pair.picture): pair for pair in known}.values())
    asked = embedder.embed([pair.query for pair in queries])
    shown = embedder.embed([bare_description(pair.image_description) for pair in views])
    centers = asked.mean(axis=0), shown.mean(axis=0)
    weights = _learn(_texts(queries, views, asked - centers[0], shown - centers[1]))
    return RiskSpace(
        weights=tuple(tuple(round(float(each), 2) for each in row) for row in weights),
        query_center=tuple(round(float(each), 4) for each in centers[0]),
        image_center=tuple(round(float(each), 4) for each in centers[1]),
    )


def _texts(
    queries: Sequence[LabelledPair], views: Sequence[LabelledPair], asked: Floats, shown: Floats
) -> _Texts:
    import torch

    pictures = {pair.picture: pair.topic for pair in views}
    place = {picture: row for row, picture in enumerate(pictures)}
    topics = {topic: number for number, topic in enumerate(sorted(set(pictures.values())))}
    views_of: list[list[int]] = [[] for _ in pictures]
    for row, pair in enumerate(views):
        views_of[place[pair.picture]].append(row)
    width = np.sqrt(asked.shape[1])  # entries of a unit vector become numbers of about one
    return _Texts(
        queries=torch.from_numpy((asked * width).astype(np.float32)),
        leaks=torch.tensor([float(pair.leak) for pair in queries]),
        picture=torch.tensor([place[pair.picture] for pair in queries]),
        views=torch.from_numpy((shown * width).astype(np.float32)),
        views_of=views_of,
        topic=torch.tensor([topics[topic] for topic in pictures.values()]),
    )


def _learn(texts: _Texts) -> Floats:
    """(k, d) weights of the space, by AdamW; the same seed every time.

    log odds of "query i leaks picture j" = steepness cos(P q_i, P v_j) + share reading(q_i) + offset: the
    reading of the query alone leaves to the space what is about the picture.
    """
    import torch

    chance = torch.Generator().manual_seed(0)
    wide = texts.queries.shape[1]
    space = (torch.randn(WIDTH, wide, generator=chance) / wide**0.5).requires_grad_()
    reading = torch.zeros(wide, requires_grad=True)
    steepness, share, offset = (torch.tensor(start, requires_grad=True) for start in (4.0, 1.0, -1.0))
    groups = [
        {"params": [space, reading], "weight_decay": DECAY},
        {"params": [steepness, share, offset], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(texts.queries), generator=chance).split(BATCH):  # type: ignore[no-untyped-call]
            pictures = texts.picture[rows]
            drawn = torch.rand(len(rows), generator=chance).tolist()
            views = [
                texts.views_of[picture][int(each * len(texts.views_of[picture]))]
                for picture, each in zip(pictures.tolist(), drawn, strict=True)
            ]
            mask = (torch.rand(wide, generator=chance) < KEPT) / KEPT
            queries = texts.queries[rows] * mask
            likeness = _unit(queries @ space.T) @ _unit((texts.views[views] * mask) @ space.T).T
            odds = steepness * likeness + share * (queries @ reading)[:, None] + offset
            loss = _loss(odds, texts.leaks[rows], texts.topic[pictures])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return np.asarray(space.detach().numpy(), np.float32)


def _unit(rows: Tensor) -> Tensor:
    from torch.nn.functional import normalize

    return normalize(rows, dim=1)


def _loss(odds: Tensor, leaks: Tensor, topic: Tensor) -> Tensor:
    """Every query against its own picture, and leaking ones against those of other topics: no leak there."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    own = torch.eye(len(leaks))
    others = (topic[:, None] != topic[None, :]) * leaks[:, None] * OTHERS_WEIGHT / len(leaks)
    target = own * leaks[:, None] * (1 - 2 * SLACK) + SLACK
    weight = own + (1 - own) * others
    each = binary_cross_entropy_with_logits(odds, target, reduction="none")
    return (each * weight).sum() / weight.sum()
