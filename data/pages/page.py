"""One self-contained HTML page from a template: everything inline, and nothing of the data can run."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from data.rows import write_text

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

SHARED = Path(__file__).with_name("templates")


class Figure(NamedTuple):
    """One of the large figures at the top of a page; kind "warn" makes it stand out."""

    name: str
    value: str
    note: str = ""
    kind: str = ""


def render_page(template: Path, values: Mapping[str, object], *, served: bool = False) -> str:
    """The page that `template` makes of `values`; it extends `base.html`.

    A style sheet and a script of the same stem beside the template travel inside the page. The
    page's Content-Security-Policy names the SHA-256 of each, so that no other style or script acts.
    A `served` page may ask the server it came from, for data and for pictures; one from disk asks nobody.
    """
    from markupsafe import Markup

    styles = _assets(template, ".css")
    scripts = _assets(template, ".js")
    page = _environment(template.parent).get_template(template.name)
    return page.render(
        values,
        styles=[Markup(style) for style in styles],  # noqa: S704 - our own files
        scripts=[Markup(script) for script in scripts],  # noqa: S704
        policy=policy(styles, scripts, served=served),
    )


def write_page(path: Path, html: str) -> None:
    """Write a page by rename; half a surrogate pair in somebody's text becomes the replacement character."""
    write_text(path, re.sub("[\ud800-\udfff]", "\ufffd", html))


def policy(styles: list[str], scripts: list[str], *, served: bool = False) -> str:
    """A Content-Security-Policy that allows these styles and scripts, inline pictures, and nothing else."""
    own = " 'self'" if served else ""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src {' '.join(map(_source_hash, styles))}",
            f"script-src {' '.join(map(_source_hash, scripts))}",
            f"img-src data:{own}",
            *(["connect-src 'self'"] if served else []),
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def json_block(value: object, identity: str) -> Markup:
    """Data for a page's script, in a block that no text in it can close."""
    from jinja2.utils import htmlsafe_json_dumps
    from markupsafe import Markup

    data = htmlsafe_json_dumps(value, dumps=_compact)
    return Markup('<script type="application/json" id="{}">{}</script>').format(identity, data)


def percent(share: float | None, digits: int = 1) -> str:
    """0.0423 as `4.2%`; None as a dash."""
    return "–" if share is None else f"{share:.{digits}%}"


def count(number: int) -> str:
    """12345 as `12,345`."""
    return f"{number:,}"


def plural(number: int, noun: str, many: str = "") -> str:
    """`1 pair`, `2 pairs`, `3 categories` (where the plural is given)."""
    return f"{count(number)} {noun if number == 1 else many or noun + 's'}"


def _compact(value: object, **_: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@cache  # a template is compiled once in a process
def _environment(folder: Path) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([folder, SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, count=count, plural=plural)
    environment.globals["json_block"] = json_block
    return environment


def _assets(template: Path, suffix: str) -> list[str]:
    """The shared file of that kind, then the template's own where there is one."""
    own = template.with_suffix(suffix)
    files = [SHARED / f"base{suffix}"] + ([own] if own.exists() else [])
    return [file.read_text(encoding="utf-8") for file in files]


def _source_hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
