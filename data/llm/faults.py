"""What a server's failed answer means: try again, give up this row, or stop the whole run."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from data.errors import UserError
from data.sources.columns import clean

LONGEST_WAIT_SECONDS = 300.0  # a server that asks for more patience has failed this row
OUT_OF_MONEY = re.compile(
    r"insufficient_(quota|funds|balance)|exceeded your current quota|(?<!/)billing", re.I
)
AGAIN_SOON = re.compile(r"\b(retry|try again) in \d", re.I)  # a limit per minute, be it called a quota
FILTERED = re.compile(r"content[ _]?(filter|policy|management)|responsible ?ai|moderation|flagged", re.I)
STRUCTURE = re.compile(r"response_?format|json_?(schema|object)|grammar|structured|parameter", re.I)
SECRETS = re.compile(r"(?i)(bearer\s+|api[-_ ]?key[\"']?\s*[:=]\s*[\"']?)[^\s\"',}]+|\bsk-[\w-]{6,}")
SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Fault:
    """A call that brought no completion. `passing` ones are worth another try."""

    reason: str
    detail: str
    passing: bool
    wait_seconds: float | None = None  # what the server asked for


def fault_of(status: int, headers: Mapping[str, str], body: str, address: str, model: str) -> Fault:
    """The fault behind an HTTP status. Raises `UserError` for what no other row would survive either."""
    said = _message(body)
    out_of_money = status == 429 and OUT_OF_MONEY.search(body) and not AGAIN_SOON.search(body)
    if status == 402 or out_of_money:
        raise UserError(f"The account at {address} has no credit left (HTTP {status}): {said}")
    if status == 403 and FILTERED.search(body):
        return Fault("blocked", said, passing=False)
    if status in (401, 403):
        raise UserError(f"The server at {address} refused the API key (HTTP {status}): {said}")
    if status in (404, 405) and not STRUCTURE.search(body):
        raise UserError(f"The server at {address} knows no model {model!r} (HTTP {status}): {said}")
    detail = f"HTTP {status}: {said}"
    if status == 429:
        return _patient(Fault("rate_limited", detail, passing=True, wait_seconds=retry_after(headers)))
    if status in (408, 409, 425) or status >= 500:
        return _patient(Fault("server_error", detail, passing=True, wait_seconds=retry_after(headers)))
    if FILTERED.search(body):
        return Fault("blocked", said, passing=False)
    return Fault("bad_request", detail, passing=False)


def _patient(fault: Fault) -> Fault:
    if (fault.wait_seconds or 0.0) <= LONGEST_WAIT_SECONDS:
        return fault
    detail = f"the server asks to wait {fault.wait_seconds:.0f} s ({fault.detail})"
    return Fault(fault.reason, detail, passing=False)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as `Retry-After` says it, in seconds or as a date, or None."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _message(body: str) -> str:
    """What the server says went wrong, on one line and without secrets."""
    try:
        error = json.loads(body)
    except ValueError:
        error = body
    for key in ("error", "message", "detail"):
        if isinstance(error, dict):
            error = error.get(key) or error
    return discreet(error if isinstance(error, str) else json.dumps(error)) or "it gave no reason"


def discreet(text: str) -> str:
    """One clean line of a text from outside, shortened, with keys and Authorization headers blotted out."""
    return SECRETS.sub("***", " ".join(clean(text).split()))[:SHOWN_CHARACTERS]
