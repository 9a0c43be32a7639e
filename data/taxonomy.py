"""The taxonomy: VLSBench's 19 sub-categories and their target shares, or the user's own."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from data.errors import UserError
from data.records import SubCategory
from data.stage_meta import digest

VLSBENCH = Path(__file__).with_name("taxonomy.toml")


class Entry(BaseModel):
    """One [[sub_category]] table of a taxonomy file; `rows` is its weight against the others."""

    model_config = ConfigDict(strict=True)

    category: str
    name: str
    rows: float = Field(ge=0, allow_inf_nan=False)
    about: str

    @property
    def id(self) -> str:
        """The name's letters and digits, of any script."""
        return re.sub(r"[\W_]+", "-", self.name.lower()).strip("-")


def load_taxonomy(path: Path = VLSBENCH) -> tuple[SubCategory, ...]:
    """The sub-categories in the file's order; shares sum to 1. Raises `UserError`."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))["sub_category"]
        entries = TypeAdapter(list[Entry]).validate_python(tables)
    except OSError as error:
        raise UserError(f"Cannot read the taxonomy {path}: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise _no_taxonomy(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (ValueError, KeyError, RecursionError) as error:
        raise _no_taxonomy(path, str(error)) from error
    ids = [entry.id for entry in entries]
    if not all(ids) or len(set(ids)) < len(ids):
        raise _no_taxonomy(path, "its sub-categories need names of their own, of letters or digits")
    total = sum(entry.rows for entry in entries)
    if not 0 < total < math.inf:
        raise _no_taxonomy(path, "the rows of its sub-categories must add up to more than 0")
    return tuple(
        SubCategory(
            id=entry.id,
            category=entry.category,
            sub_category=entry.name,
            about=entry.about,
            share=entry.rows / total,
        )
        for entry in entries
    )


def _no_taxonomy(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is not a taxonomy ({why}): it needs [[sub_category]] tables with category, name, rows and about."
    )


def taxonomy_digest(taxonomy: Iterable[SubCategory]) -> str:
    """Another for every change of names, texts or shares: what stages that go by a taxonomy keep on record."""
    return digest("".join(entry.model_dump_json() for entry in taxonomy))
