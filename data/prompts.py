"""Prompts live in Markdown files with `$name` placeholders; this loads and fills them strictly.

# system
You write ...
# user
<sub_category>$sub_category</sub_category>
"""

from __future__ import annotations

import hashlib
import html
import re
import string
from dataclasses import dataclass
from pathlib import Path

from data.errors import UserError


@dataclass(frozen=True)
class Prompt:
    """A system and a user template. Missing and unused variables are errors."""

    name: str
    system: str
    user: str

    @property
    def fingerprint(self) -> str:
        """Changes when the text does."""
        return hashlib.sha256(f"{self.system}\0{self.user}".encode()).hexdigest()[:16]

    def fill(self, **values: str) -> tuple[str, str]:
        """(system, user) with the placeholders filled.

        Values are escaped, so that no text can close the block that quotes it.
        """
        wanted = {
            name for part in (self.system, self.user) for name in string.Template(part).get_identifiers()
        }
        if wanted != set(values):
            raise ValueError(
                f"prompt {self.name}: missing {sorted(wanted - set(values))}, "
                f"unused {sorted(set(values) - wanted)}"
            )
        quoted = {name: html.escape(value, quote=False) for name, value in values.items()}
        return (
            string.Template(self.system).substitute(quoted),
            string.Template(self.user).substitute(quoted),
        )


def load_prompt(path: Path) -> Prompt:
    """A prompt file: a `# system` part, then a `# user` part."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"Cannot read the prompt {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"The prompt {path} is not UTF-8: save it as that.") from error
    match = re.fullmatch(r"\s*# system\n(.*?)\n# user\n(.*)", text, flags=re.DOTALL)
    if match is None:
        raise UserError(f"The prompt {path} needs a `# system` part and then a `# user` part.")
    for part in match.groups():
        if not string.Template(part).is_valid():
            raise UserError(f"The prompt {path} has a stray `$`: write `$$` for a dollar sign.")
    return Prompt(path.stem, match[1].strip(), match[2].strip())
