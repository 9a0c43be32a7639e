"""Who may import whom: the arrows between the rooms, read from the code itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

MAY_IMPORT = {
    "data": {"data"},
    "audit": {"data", "audit"},
    "generate_images": {"data", "generate_images"},
    "filter": {"data", "filter"},
    "eval": {"data", "eval"},
    "construct": {"data", "audit", "generate_images", "filter", "construct"},
}
ONLY_IN = {
    "datasets": {"data/benchmark/parquet.py", "data/sources/reader.py"},
    "openai": {"data/llm/connection.py", "generate_images/openai_images.py"},
}


def imports(path: Path) -> set[str]:
    """Top-level names of everything a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    for path in sorted((REPOSITORY / room).rglob("*.py")):
        strangers = (imports(path) & MAY_IMPORT.keys()) - MAY_IMPORT[room]
        assert not strangers, f"{path.relative_to(REPOSITORY)} imports {strangers}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_stays_behind_its_door(library: str) -> None:
    users = {
        str(path.relative_to(REPOSITORY))
        for room in MAY_IMPORT
        for path in (REPOSITORY / room).rglob("*.py")
        if library in imports(path)
    }
    assert users <= ONLY_IN[library]
