"""What the requests of a batch came to, read from the files a Batch API hands back.

{"custom_id": "9f1c...", "response": {"status_code": 200, "body": {"choices": [...], "usage": {...}}}}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from data.errors import UserError
from data.llm.chat import Completion
from data.llm.connection import Answer
from data.llm.faults import Fault, discreet
from data.llm.wire import read_completion

Outcome = Completion | Fault | UserError  # a `UserError` stops the run, but must leave other lines theirs


def read_results(content: bytes, fault_of: Callable[[Answer], Fault]) -> Iterator[tuple[str, Outcome]]:
    """(key, outcome) of each line of a result file; `fault_of` tells what an answer other than 200 means."""
    for line in content.splitlines():
        try:
            entry = json.loads(line)
            key, response = str(entry["custom_id"]), entry.get("response") or {}
            status = response.get("status_code") or 500
            body = json.dumps(response.get("body") or entry.get("error") or {}).encode()
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # nobody can tell whose it is: its request is among those that were left undone
        yield key, _completion(body) if status == 200 else _refusal(Answer(status, {}, body), fault_of)


def _completion(body: bytes) -> Completion | Fault:
    completion = read_completion(body)
    return (
        completion.model_copy(update={"batched": True}) if isinstance(completion, Completion) else completion
    )


def _refusal(answer: Answer, fault_of: Callable[[Answer], Fault]) -> Fault | UserError:
    try:
        return fault_of(answer)
    except UserError as error:
        return error


def left_undone(state: Mapping[str, Any]) -> Fault:
    """Why a request has no line: how its batch ended, and what the server says was wrong with it."""
    errors = (state.get("errors") or {}).get("data") or [{}]
    said = discreet(str(errors[0].get("message") or ""))
    detail = f"the batch ended as {state['status']}" + (f": {said}" if said else "")
    return Fault("batch_incomplete", detail, passing=True)
