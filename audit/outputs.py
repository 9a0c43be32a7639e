"""The files of an audit beside its report; a row of audit.jsonl, in input order:

{"id": "7", "source": "bench", "query_digest": "0f3a51c2d9e8", "leakage": 0.93, "unscored_because": null,
 "text_harm": 0.88, "p_value": 0.004, "leaks": true, "query_spans": [{"text": "forge", "weight": 0.8}],
 "image_spans": [{"text": "blank passports", "weight": 0.8}], "content_from": "caption",
 "image_content": "A desk with blank passports.", "content_note": "", "image_similarity": 2.1}

`query_digest` tells whoever joins the scores by id that a row still has the query that was audited (`pair_id`).
`image_content` is null where it is the source's own description. `image_similarity` is by --image-similarity,
in standard deviations of the query's similarity with the other pictures.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from audit.descriptions import Content
from audit.summary import Audited, Summary, why_unscored
from data.records import Audit, Span, pair_id
from data.rows import atomic, write_json

if TYPE_CHECKING:
    from audit.report import Settings
    from data.sources.reader import SourceRow

DIGITS = 6
NOTHING = Content()
CSV_COLUMNS = ("id", "source", "category", "sub_category", "leakage", "unscored_because", "text_harm",
               "p_value", "leaks", "query_spans", "image_spans", "content_from", "image_content",
               "content_note", "image_similarity")  # fmt: skip


def write_jsonl(path: Path, sources: Sequence[Audited]) -> None:
    """One row per input row, in input order."""
    with atomic(path) as file:
        for audited in sources:
            for row, audit, content in audited.entries():
                values = audit_row(row, audited.name, audit, content)
                line = json.dumps(values, ensure_ascii=False, allow_nan=False)
                # Half a surrogate pair has no bytes; its backslash escape is JSON for the same thing.
                file.write(line.encode("utf-8", "backslashreplace") + b"\n")


def _spans(spans: Sequence[Span]) -> list[dict[str, object]]:
    return [{"text": span.text, "weight": span.weight} for span in spans]


def audit_row(row: SourceRow, source: str, audit: Audit, content: Content = NOTHING) -> dict[str, object]:
    """What audit.jsonl says of one pair."""
    return {
        "id": row.id,
        "source": source,
        "query_digest": pair_id(row.query),
        "leakage": _rounded(audit.leakage),
        "unscored_because": why_unscored(audit),
        "text_harm": _rounded(audit.text_harm),
        "p_value": _rounded(audit.p_value),
        "leaks": audit.leaks,
        "query_spans": _spans(audit.query_spans),
        "image_spans": _spans(audit.image_spans),
        "content_from": audit.content_from if audit.leakage is not None else None,
        "image_content": content.made,
        "content_note": content.note,
        "image_similarity": _rounded(content.similarity),
    }


def write_csv(path: Path, sources: Sequence[Audited]) -> None:
    """The same rows for a spreadsheet, with their categories; spans as `forge (0.80); passport (0.71)`."""
    with atomic(path) as file:
        text = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="")
        table = csv.writer(text)
        table.writerow(CSV_COLUMNS)
        table.writerows(_csv_rows(sources))
        text.detach()  # flushes; the file is closed where it was opened


def _csv_rows(sources: Sequence[Audited]) -> Iterator[list[object]]:
    for audited in sources:
        for row, audit, content in audited.entries():
            values: dict[str, object] = audit_row(row, audited.name, audit, content)
            values |= {"category": row.category, "sub_category": row.sub_category}
            values |= {"query_spans": _spelt(audit.query_spans), "image_spans": _spelt(audit.image_spans)}
            yield [_harmless(values[column]) for column in CSV_COLUMNS]


def _spelt(spans: Sequence[Span]) -> str:
    return "; ".join(f"{span.text} ({span.weight:.2f})" for span in spans)


def _harmless(value: object) -> object:
    """A text that a spreadsheet would run as a formula gets an apostrophe in front."""
    if (
        isinstance(value, str)
        and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        and not _is_number(value)
    ):
        return "'" + value
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def write_summary(path: Path, summaries: Sequence[Summary], settings: Settings) -> None:
    """The figures: of all sources together, then one by one, then what they were made with."""
    calibration = settings.calibration
    made_with = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "embedder": settings.embedder,
        "calibration": {
            "embedder": calibration.embedder,
            "digest": calibration.digest(),
            **calibration.provenance,
        },
        "pictures": dict(settings.eyes),
        "settings": {"false_discovery_rate": settings.false_discovery_rate, "exact": settings.exact},
    }
    write_json(path, _overall(summaries) | {"sources": [each.model_dump() for each in summaries]} | made_with)


def _overall(summaries: Sequence[Summary]) -> dict[str, object]:
    """The only source's figures; of several, what can be added up."""
    if len(summaries) == 1:
        return summaries[0].model_dump()
    unscored: Counter[str] = Counter()
    for summary in summaries:
        unscored.update(summary.unscored)
    return {
        "verdict": " ".join(summary.verdict for summary in summaries),
        "rows": sum(summary.rows for summary in summaries),
        "scored": sum(summary.scored for summary in summaries),
        "unscored": dict(unscored),
        "flagged": sum(summary.flagged for summary in summaries),
    }
