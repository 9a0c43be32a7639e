"""Records of benchmarks that are not rows yet, each turned into its rows.

A record of VLGuard's test.json stands for one row or for two:

    {"id": "Ads_1", "image": "ads/1.png", "safe": true,
     "instr-resp": [{"safe_instruction": "...", "response": "..."}, {"unsafe_instruction": "...", ...}]}
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from audit.layouts import At
from data.errors import UserError
from data.sources.columns import Raw


def figstep(record: Raw, at: At) -> Iterator[Raw]:
    """The image shows the instruction as the heading of a list of three empty items."""
    number = f"{record.get('category_id')}_{record.get('task_id')}"
    yield {
        "id": number,
        "query": figstep_prompt(at.base) if at.variant == "prompt" else record.get("question"),
        "image_description": f"{record['instruction']} 1. 2. 3." if record.get("instruction") else None,
        "image": f"query_{record.get('dataset')}_{number}_6.png",
        "category": record.get("category_name"),
    }


@cache
def figstep_prompt(base: Path) -> str:
    """The one prompt that goes with all of FigStep's images: it lies in the authors' code, not their data."""
    for script in (base / "src/generate_prompts.py", base.parent / "src/generate_prompts.py"):
        try:
            tree = ast.parse(script.read_bytes()) if script.is_file() else ast.Module([], [])
        except (SyntaxError, ValueError, RecursionError) as error:
            raise UserError(f"{script} is not readable Python.") from error
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("QueryType.figstep"):
                for part in ast.walk(node.body[0]):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        return part.value
    raise UserError("figstep:prompt needs src/generate_prompts.py of the authors' checkout beside its data.")


def mm_safetybench(record: Raw, at: At) -> Iterator[Raw]:
    """All three kinds of image show the key phrase: typeset, drawn, or both."""
    question, images = {
        "rephrased": ("Rephrased Question", "SD_TYPO"),
        "original": ("Question", "SD_TYPO"),
        "typographic": ("Rephrased Question", "TYPO"),
        "sd": ("Rephrased Question(SD)", "SD"),
    }[at.variant]
    scenario = at.file.stem
    yield {
        "id": f"{scenario}/{record.get('id')}",
        "query": record.get(question),
        "image_description": record.get("Key Phrase"),
        "image": f"{scenario}/{images}/{record.get('id')}.jpg",
        "category": scenario.partition("-")[2] or scenario,
    }


VLGUARD = {"instruction": "unsafes", "safe_instruction": "safe_safes", "unsafe_instruction": "safe_unsafes"}


def vlguard(record: Raw, at: At) -> Iterator[Raw]:
    """Each instruction is a row; a harmless one about a harmless image is a safe twin."""
    shared = {
        "image": record.get("image"),
        "category": record.get("harmful_category"),
        "sub_category": record.get("harmful_subcategory"),
    }
    turns = record.get("instr-resp")
    asked = [
        (field, turn[field])
        for turn in (turns if isinstance(turns, list) else ())
        for field in VLGUARD
        if isinstance(turn, dict) and field in turn
    ]
    for field, query in asked:
        if at.variant in ("all", VLGUARD[field]):
            identity = f"{record.get('id')}-{field.removesuffix('_instruction')}"
            yield shared | {"id": identity, "query": query, "is_safe": VLGUARD[field] == "safe_safes"}
    if not asked:  # a row without a query is counted and not scored
        yield shared | {"id": record.get("id"), "query": None}


class Side(NamedTuple):
    """Where MSSBench keeps the queries, image and description of one side of a situation."""

    queries: str
    image: str
    description: str


MSSBENCH = {
    ("chat", "safe"): Side("queries", "safe_image_path", "safe_image"),
    ("chat", "unsafe"): Side("queries", "unsafe_image_path", "unsafe_image"),
    ("embodied", "safe"): Side("safe_instructions", "safe", "observation_safe"),
    ("embodied", "unsafe"): Side("unsafe_instructions", "unsafe", "observation_unsafe"),
}


def mssbench(record: Raw, at: At) -> Iterator[Raw]:
    """Each query is a row beside the unsafe image and another beside the safe one."""
    kind = str(record.get("list"))
    for (task, safety), side in MSSBENCH.items():
        queries = record.get(side.queries)
        if task != kind or at.variant not in ("all", kind):
            continue
        for number, query in enumerate(queries if isinstance(queries, list) else [queries]):
            yield {
                "id": f"{kind}-{record.get('number')}-{number}-{safety}",
                "query": query,
                "image_description": record.get(side.description),
                "image": f"{kind}/{record.get(side.image) or ''}",
                "category": record.get("Type") or record.get("category"),
                "sub_category": kind,
                "is_safe": safety == "safe",
            }


def holisafe(record: Raw, _at: At) -> Iterator[Raw]:
    """`type` says of image, query and both together whether they are safe: "SSU"."""
    yield {**record, "is_safe": {"S": True, "U": False}.get(str(record.get("type"))[-1:])}


def mossbench(record: Raw, at: At) -> Iterator[Raw]:
    """All of the oversensitivity set is harmless; its contrast set is not."""
    row = {**record, "is_safe": at.variant == "oversensitivity"}
    if at.file.name == "information.json":  # both sets call their images alike, and not by their suffixes
        stem = str(record.get("image") or "").rpartition(".")[0]
        row["image"] = f"{at.file.absolute().parents[1].name}/{stem}"
    yield row


def harmbench(record: Raw, _at: At) -> Iterator[Raw]:
    """The images' suffixes are not always those of the table."""
    yield {**record, "ImageFileName": str(record.get("ImageFileName") or "").rpartition(".")[0]}
