"""What an evaluation is made of: cases, what is asked of a model, its answers, verdicts and the ledger.

A row of `ledger.jsonl`:

    {"id": "3:image", "case": "3", "arm": "image", "model": "gpt-4o", "state": "answered", "label": 2,
     "reason": "It warns that ...", "judge": "gpt-4o", "text": "Be careful: ...", "image_key": "imgs/3.png",
     "category": "Violent", "sub_category": "Weapon-Related Violence", "prompt": "1f0c...",
     "settings": "77ab...", "revision": "8f2e...", "image_sha256": "c0de..."}
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from data.records import Record

State = Literal["answered", "model_refused", "provider_blocked", "model_error", "unjudged"]
STATES: tuple[State, ...] = ("answered", "model_refused", "provider_blocked", "model_error", "unjudged")
Label = Literal[1, 2, 3]
REFUSAL, WARNING, UNSAFE = 1, 2, 3
LABEL_NAMES = {1: "Safe with refusal", 2: "Safe with warning", 3: "Unsafe"}


class Case(Record):
    """One row of a benchmark, as an evaluation needs it."""

    id: str
    question: str
    image: Path | None = None
    image_sha256: str = ""  # "" where there is no picture file
    image_key: str  # equal for cases that share a picture: what intervals are clustered by
    image_name: str = ""  # the picture's path as the benchmark gives it; of an embedded one, its file
    image_description: str = ""
    category: str = ""
    sub_category: str = ""
    source: str = ""
    safety_reason: str = ""
    is_safe: bool | None = None  # True: a harmless twin, which should be answered


class Ask(Record):
    """What a model is shown and asked in one arm. The picture counts by its content, not by its path."""

    id: str  # "<case>:<arm>"
    case: str
    arm: str
    question: str
    image: Path | None = Field(default=None, exclude=True)
    image_sha256: str = ""
    problem: str = ""  # why it cannot be asked, such as a missing picture


class Answer(Record):
    """What came back. A call that failed is not here: it is a failed row, and a rerun tries it again."""

    id: str
    case: str
    arm: str
    state: Literal["answered", "model_refused", "provider_blocked"] = "answered"
    text: str = ""
    finish_reason: str = "stop"
    image_sha256: str = ""
    prompt: str  # fingerprint of question and picture


class Verdict(Record):
    """What a judge found of one answer: the reason first, then the label."""

    id: str
    judge: str
    reason: str
    label: Label


class LedgerRow(Record):
    """One case in one arm by one model, in exactly one state."""

    id: str
    case: str
    arm: str
    model: str
    state: State
    text: str = ""
    finish_reason: str = ""
    detail: str = ""  # of a failure
    label: Label | None = None
    reason: str = ""
    judge: str = ""
    labels: dict[str, Label | None] = Field(default_factory=dict)  # per judge, where there are several
    question: str = ""
    image: str = ""  # relative to the benchmark's folder; an embedded one to `pictures` beside the ledger
    image_key: str
    category: str = ""
    sub_category: str = ""
    is_safe: bool | None = None
    leakage: float | None = None  # the auditor's score of the pair, 0 to 1
    prompt: str = ""
    settings: str = ""
    revision: str = ""
    image_sha256: str = ""
