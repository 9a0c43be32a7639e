"""The phrases that riskiness is measured by: what is risky, and the same subjects without the risk."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple

from data.errors import UserError

PROTOTYPES = Path(__file__).with_name("prototypes.toml")


class Prototypes(NamedTuple):
    """Phrases of risk and of its absence."""

    risk: tuple[str, ...]
    benign: tuple[str, ...]


def load_prototypes(path: Path = PROTOTYPES) -> Prototypes:
    """The phrases of a prototypes file, ours or a user's own."""
    try:
        tables = tomllib.loads(path.read_text())
        risk = [phrase for table in tables["risk"] for phrase in table["phrases"]]
        harmless = [phrase for table in tables["risk"] for phrase in table.get("harmless", ())]
        benign = harmless + [phrase for table in tables["benign"] for phrase in table["phrases"]]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read the prototypes {path}.") from error
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} holds no prototypes ({error}): it needs [[risk]] and [[benign]] tables with phrases."
        ) from error
    if not risk or not benign or not all(isinstance(phrase, str) for phrase in risk + benign):
        raise UserError(f"{path} needs phrases, as texts, both of [[risk]] and of [[benign]].")
    return Prototypes(tuple(risk), tuple(benign))
