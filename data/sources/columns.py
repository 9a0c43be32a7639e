"""Which column of a stranger's table holds the query, the description, the image; and a cell's text.

Of the columns qid, question, caption and img_path:

    Columns(id=("qid",), query=("question",), image_description=("caption",), image=("img_path",))
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from data.errors import UserError
from data.records import Record

Raw = Mapping[str, object]  # one row as its file has it

# Names are compared without case, spaces, dashes and underscores: "Image Description" is image_description.
QUERIES = (  # an earlier line wins over a later one; two names of one line are ambiguous
    "query",
    "instruction question prompt user_query user_prompt user_input prompt_text text_prompt query_text "
    "question_text text_query jailbreak_query behavior request",
    "text input message messages conversation conversations utterance",
)
OTHERS = {  # an earlier name wins over a later one
    "id": "id instruction_id question_id query_id prompt_id sample_id item_id row_id behavior_id example_id "
    "pid qid uid uuid idx index",
    "image_description": "image_description description unsafe_image_description img_description image_desc "
    "image_caption img_caption caption captions short_description alt_text",
    "image": "image image_path img img_path image_file image_file_name file_name image_name images "
    "image_paths picture photo image_id",
    "category": "category harm_category hazard_category risk_category semantic_category class scenario "
    "policy topic family",
    "sub_category": "sub_category hazard_subcategory sub_class sub_topic",
    "is_safe": "is_safe",
}
FLAGS = {
    "query": "--query-column",
    "image_description": "--description-column",
    "image": "--image-column",
    "id": "--id-column",
    "category": "--category-column",
    "is_safe": "--safe-column",
}
NO_COLUMN = "none"  # a choice: the field is read from no column
SHOWN_COLUMNS = 20
SHOWN_LETTERS = 40
DEEPEST_CELL = 4


class Columns(Record):
    """The columns that each field is read from: the first that a row fills counts; () is none."""

    id: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    image_description: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    image_key: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    sub_category: tuple[str, ...] = ()
    is_safe: tuple[str, ...] = ()

    def spelt(self) -> str:
        """As a reader is told: "query = question, image = file or image"."""
        found = {field: names for field, names in self.model_dump().items() if names}
        return ", ".join(f"{field} = {' or '.join(names)}" for field, names in found.items())


def choose_columns(names: Sequence[str], chosen: Mapping[str, str | None], where: str) -> Columns:
    """The user's choice for a field where there is one, else the best known name.

    `chosen` maps fields of `FLAGS` to a column or None; a column inside another is written "outer.inner", and
    "none" leaves a field without one. No query column, or two as good as each other, is a UserError.
    """
    without = {
        field
        for field, name in chosen.items()
        if name == NO_COLUMN and name not in names and field != "query"
    }
    chosen = {field: name for field, name in chosen.items() if field not in without}
    for field, name in chosen.items():
        if name is not None and name.partition(".")[0] not in names and name not in names:
            raise UserError(f"{where} has no column {name!r} for {FLAGS[field]}: it has {shown(names)}.")
    free = [name for name in names if name not in chosen.values() and name == clean(name)]
    known = {_plain(name): name for name in reversed(free)}  # of two spellings the first counts
    found = {
        field: chosen.get(field) or _first(known, options)
        for field, options in OTHERS.items()
        if field not in without
    }
    found["query"] = chosen.get("query") or _query_column(free, where)
    return Columns.model_validate({field: (name,) for field, name in found.items() if name})


def _first(known: Mapping[str, str], options: str) -> str | None:
    return next((known[_plain(option)] for option in options.split() if _plain(option) in known), None)


def _query_column(names: Sequence[str], where: str) -> str:
    for line in QUERIES:
        plain = {_plain(option) for option in line.split()}
        fitting = [name for name in names if _plain(name) in plain]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise UserError(
                f"The query of {where} could be any of {shown(fitting)}: choose with {FLAGS['query']}."
            )
    raise UserError(
        f"No column of {where} is known to hold the query: name it with {FLAGS['query']}, "
        f"one of {shown(names)}."
    )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def shown(names: Sequence[str]) -> str:
    """Column names for a message: a few, short, and without control characters."""
    short = [_printable(name[:SHOWN_LETTERS]) for name in names[:SHOWN_COLUMNS]]
    return ", ".join(short) + (", ..." if len(names) > SHOWN_COLUMNS else "")


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)


def cell(row: Raw, columns: Sequence[str]) -> object:
    """The first filled cell among the columns, or None; "a.b" is b inside a where no column is called so."""
    for column in columns:
        value = row.get(column)
        outer, dot, inner = column.partition(".")
        if value is None and dot and isinstance(row.get(outer), Mapping):
            value = row[outer].get(inner)  # type: ignore[attr-defined]
        if value is not None and value != "":
            return value
    return None


def clean(text: str) -> str:
    """The text as it can be written in UTF-8: halves of surrogate pairs are replaced."""
    return text if text.isascii() else re.sub("[\ud800-\udfff]", "\ufffd", text)


def text_of(value: object, depth: int = 0) -> str:
    """A cell as clean text; of a conversation the user's first turn; of a list its texts, one a line."""
    if isinstance(value, str):
        return clean(value).replace("<image>", "").strip()
    if value is None or value != value or depth > DEEPEST_CELL:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a spreadsheet's 12.0
    if isinstance(value, (list, tuple)):
        turns = [part for part in value if isinstance(part, Mapping) and {"role", "from"} & part.keys()]
        parts = [turn for turn in turns if _is_user(turn)][:1] if turns else value
        return "\n".join(filter(None, (text_of(part, depth + 1) for part in parts)))
    if isinstance(value, Mapping):
        if turns := _turns(value):
            return text_of(turns, depth + 1)
        inner = next((value[key] for key in ("content", "value", "text") if key in value), None)
        return text_of(inner, depth + 1)
    if isinstance(value, (bytes, bytearray)):
        return ""
    return str(value)


def _turns(columns: Mapping[str, object]) -> list[Mapping[str, object]]:
    """The turns of a conversation kept as columns, as `datasets` does: {"from": [...], "value": [...]}."""
    lists = {name: cells for name, cells in columns.items() if isinstance(cells, (list, tuple))}
    if not {"role", "from"} & lists.keys():
        return []
    return [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=False)]


def _is_user(turn: Mapping[str, object]) -> bool:
    return str(turn.get("role", turn.get("from"))).lower() in ("user", "human")


def truth_of(value: object) -> bool | None:
    """A yes-or-no cell; None where it is neither."""
    text = text_of(value).lower()
    return (
        True
        if text in ("true", "yes", "1", "1.0")
        else False
        if text in ("false", "no", "0", "0.0")
        else None
    )
