"""The figures of an audit: per source and category, and one sentence that a paper could quote.

{"source": "bench", "rows": 500, "scored": 498, "unscored": {"the query is empty": 2},
 "flagged": 61, "flagged_share": {"value": 0.122, "low": 0.097, "high": 0.154},
 "prevalence": {"value": 0.118, "low": 0.081, "high": 0.157}, "categories": [...], "verdict": "..."}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from audit.calibrations import Calibration, reference_of
from audit.descriptions import Content
from audit.descriptions import cautions as content_cautions
from audit.empirical_null import LEVEL
from audit.metrics import prevalence, rogan_gladen
from data.pages.page import plural
from data.records import Audit, Record
from data.sources.reader import Source, SourceRow

Z_95 = 1.959964
FEW = 20  # pairs; of fewer the pool that scores are normalised by says little
RARE = 5  # images with a hit, or without one; of fewer a bootstrap says little
# Times the share of leaks that the calibration misses; of families left out of it, 0 to .24 where it says .12.
MISSED_AT_WORST = 2


class Share(Record):
    """A share of rows (0 to 1) with its 95 % interval."""

    value: float
    low: float
    high: float


class CategoryFigures(Record):
    """One category, or one of its sub-categories."""

    category: str
    sub_category: str = ""
    rows: int
    counted: int  # scored, and not marked as harmless
    flagged: int
    flagged_share: Share | None
    mean_leakage: float | None


class NullFigures(Record):
    """Where p-values take a source's leak-free pairs beside one kind of description to lie, in log odds of leakage."""

    kind: str  # "author", "caption" or "ocr", as `audit.calibrations.reference_of` has it
    pairs: int  # that this was read off
    location: float  # their median
    spread: float  # their interquartile range
    usual_location: float  # of the calibration's families
    usual_spread: float


class Summary(Record):
    """One audited source. Shares are of the scored rows that its authors do not mark as harmless."""

    source: str
    path: str
    benchmark: str | None
    columns: dict[str, list[str]]
    rows: int
    marked_harmless: int  # scored like the others, but in no share
    scored: int
    unscored: dict[str, int]  # reason -> rows, the commonest first
    flagged: int
    flagged_share: Share | None
    prevalence: Share | None
    mean_leakage: float | None  # of the counted pairs
    content_from: dict[str, int]  # where the images' content came from -> scored rows
    categories: tuple[CategoryFigures, ...]
    nulls: tuple[NullFigures, ...] = ()
    notes: tuple[str, ...]
    cautions: tuple[str, ...]  # what a reader of the figures should not miss
    verdict: str


class Audited(NamedTuple):
    """A source and what the auditor found, row by row."""

    name: str
    source: Source
    audits: Sequence[Audit]
    contents: Sequence[Content] = ()  # what the pictures show, where not only the source says so

    def entries(self) -> list[tuple[SourceRow, Audit, Content]]:
        """Every row with its audit and what its picture shows."""
        given = self.contents or [Content(row.image_description, "author") for row in self.source.rows]
        return list(zip(self.source.rows, self.audits, given, strict=True))

    def pairs(self) -> list[tuple[SourceRow, Audit]]:
        return list(zip(self.source.rows, self.audits, strict=True))


def summarise(audited: Audited, sensitivity: float, false_discovery_rate: float) -> Summary:
    """The figures of one source.

    `sensitivity` is the share of leaking pairs that the test at the 5 % level finds (of the calibration).
    """
    source, pairs = audited.source, audited.pairs()
    judged = counted(pairs)
    flagged_share = _share([bool(audit.leaks) for _, audit in judged], judged)
    scored = sum(audit.leakage is not None for _, audit in pairs)
    summary = Summary(
        source=audited.name,
        path=source.name,
        benchmark=source.benchmark,
        columns={field: list(names) for field, names in source.columns.model_dump().items() if names},
        rows=len(pairs),
        marked_harmless=sum(row.is_safe is True for row, _ in pairs),
        scored=scored,
        unscored=dict(
            Counter(because for _, audit in pairs if (because := why_unscored(audit))).most_common()
        ),
        flagged=sum(bool(audit.leaks) for _, audit in judged),
        flagged_share=flagged_share,
        prevalence=_prevalence(judged, sensitivity, flagged_share, false_discovery_rate),
        mean_leakage=_mean_leakage(judged),
        content_from=dict(
            Counter(audit.content_from or "unknown" for _, audit in pairs if audit.leakage is not None)
        ),
        categories=tuple(_by_category(pairs)),
        notes=tuple(
            f"{note.reason} ({plural(len(note.rows), 'row')})" if note.rows else note.reason
            for note in source.notes
        ),
        cautions=(*_cautions(scored), *content_cautions(audited.contents)),
        verdict="",
    )
    return summary.replace(verdict=verdict(summary, len(judged), false_discovery_rate))


def nulls_of(audited: Audited, calibration: Calibration) -> list[NullFigures]:
    """The nulls of a source, that of most pairs first."""
    leakage: dict[str, list[float]] = {}
    for row, audit, content in audited.entries():
        if audit.leakage is not None and row.is_safe is not True:
            kind = reference_of(content.origin or "", content.text or "")
            leakage.setdefault(kind, []).append(audit.leakage)
    found = []
    for kind, scores in sorted(leakage.items(), key=lambda of_kind: -len(of_kind[1])):
        leak_free = calibration.leak_free(kind)
        null = leak_free.own_null(np.array(scores))
        found.append(
            NullFigures(
                kind=kind,
                pairs=len(scores),
                location=null.location,
                spread=null.spread,
                usual_location=leak_free.location,
                usual_spread=leak_free.spread,
            )
        )
    return found


def _cautions(scored: int) -> Iterator[str]:
    if 0 < scored < FEW:
        yield (
            f"Only {plural(scored, 'pair')} {'was' if scored == 1 else 'were'} scored: with so few there are hardly "
            "other pictures to compare a query with, so single scores are rougher and the shares uncertain."
        )


def counted(pairs: Iterable[tuple[SourceRow, Audit]]) -> list[tuple[SourceRow, Audit]]:
    """The scored pairs that shares are of: harmless twins have no risk to leak."""
    return [(row, audit) for row, audit in pairs if audit.leakage is not None and row.is_safe is not True]


def _prevalence(
    judged: Sequence[tuple[SourceRow, Audit]],
    sensitivity: float,
    flagged: Share | None,
    false_discovery_rate: float,
) -> Share | None:
    """How many leak: those found by the test at the 5 % level, corrected for its two kinds of error.

    Where fewer than 5 % of leak-free pairs have a small p-value the correction takes leaks away too: what is flagged
    counts all the same, but for the false-discovery rate, and the interval reaches as far as that of the flagged share.
    Of one benchmark's leaks the test finds more than of another's: the interval also reaches as far as the estimates
    would lie if it missed none here, or twice as many as in the calibration. Where most pairs leak, this is more than
    the chance of sampling.
    """
    found = [audit.p_value is not None and audit.p_value <= LEVEL for _, audit in judged]
    share = _share(found, judged)
    if share is None or flagged is None or sensitivity <= LEVEL:
        return None
    value, low, high = (rogan_gladen(x, sensitivity, LEVEL) for x in (share.value, share.low, share.high))
    worst = max(1 - MISSED_AT_WORST * (1 - sensitivity), LEVEL + 1e-9)
    missing_none, missing_most = (rogan_gladen(share.value, found, LEVEL) for found in (1.0, worst))
    return Share(
        value=max(value, flagged.value * (1 - false_discovery_rate)),
        low=min(low, missing_none),
        high=max(high, missing_most, flagged.high),
    )


def _share(hits: Sequence[bool], judged: Sequence[tuple[SourceRow, Audit]]) -> Share | None:
    """A share and the wider of Wilson's interval and a bootstrap over images, whose rows are alike.

    Where hardly an image has a hit, or lacks one, a bootstrap has nothing to draw: images then count in place of rows.
    """
    share = wilson(sum(hits), len(hits))
    if share is None:
        return None
    images = [row.image_key for row, _ in judged]
    _, low, high = prevalence(hits, images, sensitivity=1, false_positive_rate=0)
    share = share.replace(low=min(share.low, low), high=max(share.high, high))
    with_each = Counter(hit for _, hit in set(zip(images, hits, strict=True)))
    number = len(set(images))
    careful = wilson(share.value * number, number)
    if careful is None or min(with_each[True], with_each[False]) >= RARE:
        return share
    return share.replace(low=min(share.low, careful.low), high=max(share.high, careful.high))


def why_unscored(audit: Audit) -> str | None:
    """The reason for a missing score; None where there is a score."""
    if audit.leakage is not None:
        return None
    return audit.unscored_because or "the auditor gave no score"


def _by_category(pairs: Sequence[tuple[SourceRow, Audit]]) -> list[CategoryFigures]:
    """Every category with its sub-categories after it, in order of first appearance; none if unnamed."""
    groups: dict[str, dict[str, list[tuple[SourceRow, Audit]]]] = {}
    for row, audit in pairs:
        groups.setdefault(row.category, {}).setdefault(row.sub_category, []).append((row, audit))
    if set(groups) <= {""}:
        return []
    figures = []
    for category, parts in groups.items():
        figures.append(_category(category, "", [pair for part in parts.values() for pair in part]))
        figures += [_category(category, name, part) for name, part in parts.items() if name]
    return figures


def _category(category: str, sub_category: str, pairs: Sequence[tuple[SourceRow, Audit]]) -> CategoryFigures:
    judged = counted(pairs)
    flagged = sum(bool(audit.leaks) for _, audit in judged)
    return CategoryFigures(
        category=category or "(none named)",
        sub_category=sub_category,
        rows=len(pairs),
        counted=len(judged),
        flagged=flagged,
        flagged_share=wilson(flagged, len(judged)),
        mean_leakage=_mean_leakage(judged),
    )


def _mean_leakage(judged: Sequence[tuple[SourceRow, Audit]]) -> float | None:
    return fmean(audit.leakage or 0.0 for _, audit in judged) if judged else None


def verdict(summary: Summary, judged: int, false_discovery_rate: float) -> str:
    """One sentence: how much leaks, how sure that is, and what could not be judged."""
    missing = sum(summary.unscored.values())
    rest = f"; {missing:,} more could not be scored" if missing else ""
    if not judged and summary.scored:
        return (
            f"All {summary.scored:,} scored pairs of {summary.source} are marked harmless by its authors, so that "
            f"none of them can give a risk away{rest}."
        )
    if not judged:
        reasons = "; ".join(f"{reason} ({number:,})" for reason, number in summary.unscored.items())
        return (
            f"None of the {summary.rows:,} pairs of {summary.source} could be judged: {reasons or 'no rows'}."
        )
    share = summary.flagged_share
    flags = f"{summary.flagged:,} of {plural(judged, 'pair')} ({share.value:.1%})" if share else "no pairs"
    rate = f"at a false-discovery rate of {100 * false_discovery_rate:.3g}%"
    if summary.prevalence is None:
        return f"In {summary.source}, the text gives the image's risk away in {flags}, flagged {rate}{rest}."
    p = summary.prevalence
    return (
        f"In an estimated {p.value:.1%} (95% CI {p.low:.1%} to {p.high:.1%}) of the {plural(judged, 'pair')} of "
        f"{summary.source}, the text alone gives the image's risk away; {flags} "
        f"{'is' if summary.flagged == 1 else 'are'} flagged one by one "
        f"{rate}{rest}."
    )


def wilson(hits: float, n: int) -> Share | None:
    """A share with its Wilson (1927) interval; None of no rows."""
    if n == 0:
        return None
    share, z2 = hits / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5
    return Share(value=share, low=max(centre - half, 0.0), high=min(centre + half, 1.0))
