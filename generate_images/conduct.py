"""Drawing a file of prompts: rows in, pictures and `draw.jsonl` out, resumed by row and by picture.

A row of `draw.jsonl`:

    {"id": "kite-1", "of": "91b2c0de55aa", "prompt": "A red kite ...", "image_path": "images/kite-1.png",
     "drawing": {"generator": "sketch", "prompt": "A red kite ...", "seed": 3141592653}}
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from data.errors import PERMANENT, RowFailed, UserError
from data.records import Drawing, Record, Rejection, pair_id
from data.rows import RowFile, read_rows
from data.run_folder import locked
from data.sources.columns import clean
from data.stage import Stage, StageMeta, check_settings, read_stage, run_stage
from generate_images.contact import write_contact_sheet
from generate_images.critic import ChatCritic, review_prompt
from generate_images.draw import Studio, draw_subjects, picture_path
from generate_images.drawn import Size
from generate_images.generators import Generator, find_generator
from generate_images.improve import Outcome, Subject
from generate_images.settings import LoopSettings, MachineSettings, PictureSettings

EXIT_WITH_FAILURES = 3
AT_ONCE = 64  # rows drawn between two looks at the progress bar; pictures are on disk as they come
FILE_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)  # ids that can be a file's name as they are
SHOWN = 200  # characters of a failure
SettingsType = TypeVar("SettingsType", bound=BaseModel)


class PromptRow(Record):
    """What to draw."""

    id: str
    prompt: str
    width: int | None = None
    height: int | None = None


class DrawnRow(Record):
    """What came of it."""

    id: str
    prompt: str
    image_path: str = ""
    drawing: Drawing | None = None
    rejected: Rejection | None = None


@dataclass
class Drawer:
    """The settings of a run, and its studio once there is something to draw."""

    arguments: argparse.Namespace
    picture: PictureSettings
    machine: MachineSettings
    loop: LoopSettings
    closing: ExitStack = field(default_factory=ExitStack)

    def stage(self) -> Stage[PromptRow, DrawnRow]:
        asked = self.arguments
        settings: dict[str, Any] = {
            "generator": asked.generator,
            "format": asked.format,
            "critic": f"{asked.critic}, prompt {review_prompt().fingerprint}" if asked.critic else None,
            "similarity": asked.similarity,
            "picture": self.picture.model_dump(exclude_unset=True),
            "loop": self.loop.model_dump(exclude_unset=True),
        }
        return Stage(
            name="draw",
            settings=settings,
            batch=self.draw,
            batch_size=AT_ONCE,
            advice="name another --out folder, or add --redo {stage} to make it again here",
            keeps_others=asked.limit is not None,  # a first few do not undo the rest
        )

    def draw(self, rows: Sequence[PromptRow]) -> list[DrawnRow | RowFailed]:
        drawn = draw_subjects([_subject(row) for row in rows], self.studio)
        return [_drawn_row(row, each, self.studio) for row, each in zip(rows, drawn, strict=True)]

    @cached_property
    def generator(self) -> Generator:
        return find_generator(self.arguments.generator, self.picture, self.machine)()

    @cached_property
    def studio(self) -> Studio:
        asked, critic, similarity = self.arguments, None, None
        if asked.similarity:
            from generate_images.similarity import ImageTextModel

            similarity = ImageTextModel(asked.similarity, self.machine.device)
        if asked.critic:
            critic = self.closing.enter_context(_critic(asked))
        return Studio(self.generator, asked.out, self.loop, critic, similarity, f".{asked.format}")


def conduct(arguments: argparse.Namespace) -> int:
    """Draw what is not drawn yet; 0 when every row has a picture or a reason, 3 when some failed."""
    drawer = Drawer(
        arguments,
        _settings(PictureSettings, arguments),
        _settings(MachineSettings, arguments),
        _settings(LoopSettings, arguments),
    )
    find_generator(arguments.generator, drawer.picture, drawer.machine)  # a wrong name is said at once
    _check_flags(arguments)
    rows = read_prompts(arguments.prompts)[: arguments.limit]
    stage = drawer.stage()
    with locked(arguments.out, "--out"), drawer.closing:
        if arguments.redo:
            _forget(arguments.out)
        if not (arguments.out / "draw.jsonl").exists() or not (arguments.out / "draw.jsonl").stat().st_size:
            _forget(arguments.out)  # nothing was made with those settings
        check_settings(stage, arguments.out)
        _forget_missing(arguments.out)
        meta = asyncio.run(run_stage(stage, rows, arguments.out, arguments.retry_failed))
        if arguments.contact_sheet:
            wanted = {row.id for row in rows}
            drawn = [row for row in read_stage(arguments.out, "draw", DrawnRow) if row.id in wanted]
            write_contact_sheet(arguments.out / "contact-sheet.png", drawn)
    return _conclude(meta, arguments.out)


def _check_flags(asked: argparse.Namespace) -> None:
    """Raise `UserError` for a flag that would do nothing without another, or beside it."""
    if asked.limit is not None and asked.limit < 1:
        raise UserError(f"--limit takes a number from 1 upwards, not {asked.limit}.")
    of_critic = ("rounds", "good_enough", "least_match", "critic_url", "critic_key_variable")
    idle = [name for name in of_critic if getattr(asked, name) is not None]
    if idle and not asked.critic:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        raise UserError(f"Without --critic MODEL these would do nothing; add it, or leave them out: {flags}.")
    if asked.best_of is not None and (asked.critic or not asked.similarity):
        raise UserError("--best-of goes with --similarity MODEL, which chooses, and without --critic.")


def read_prompts(path: Path) -> list[PromptRow]:
    """The rows of a prompts file. Raises `UserError` naming the first line that is not one."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a JSON text may hold other line ends
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"Cannot read {path}: {reason}.") from error
    rows: dict[str, PromptRow] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _prompt_row(line, f"Line {number} of {path}")
        if row.id in rows:
            raise UserError(
                f"Line {number} of {path} has the id {row.id!r} of an earlier one: ids are unique."
            )
        rows[row.id] = row
    if not rows:
        raise UserError(f"{path} holds no prompts: one row {{id, prompt}} per line.")
    return list(rows.values())


def _prompt_row(line: str, place: str) -> PromptRow:
    try:
        value = json.loads(line)
        given = {name: value[name] for name in PromptRow.model_fields if name in value}
        texts = {name: clean(text) for name, text in given.items() if isinstance(text, str)}
        row = PromptRow.model_validate(given | texts)
    except (ValueError, TypeError, RecursionError) as error:  # pydantic's own is a ValueError
        raise UserError(f"{place} is no row with an id and a prompt, both text.") from error
    if not row.prompt.strip():
        raise UserError(f"{place} has an empty prompt.")
    if (row.width is None) != (row.height is None) or min(row.width or 1, row.height or 1) < 1:
        raise UserError(f"{place} needs width and height together, both above 0.")
    return row


def _subject(row: PromptRow) -> Subject:
    """An id that is no plain file name is hashed into one."""
    name = row.id if FILE_NAME.fullmatch(row.id) else pair_id(row.id)
    size = Size(row.width, row.height) if row.width and row.height else None
    return Subject(name, row.prompt, size)


def _drawn_row(row: PromptRow, drawn: Outcome, studio: Studio) -> DrawnRow | RowFailed:
    if drawn.failed is not None:
        return drawn.failed
    flaw = drawn.rejected
    return DrawnRow(
        id=row.id,
        prompt=row.prompt,
        image_path=picture_path(drawn, studio) if drawn.best else "",
        drawing=drawn.drawing,
        rejected=Rejection(stage="draw", reason=flaw.reason, detail=flaw.detail) if flaw else None,
    )


def _settings(kind: type[SettingsType], arguments: argparse.Namespace) -> SettingsType:
    """The arguments that such settings have, where they were given."""
    given = {
        name: value for name in kind.model_fields if (value := getattr(arguments, name, None)) is not None
    }
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        option = str(problem["loc"][0]).replace("_", "-")
        raise UserError(f"--{option}: {problem['msg'][0].lower()}{problem['msg'][1:]}.") from error


@contextmanager
def _critic(asked: argparse.Namespace) -> Iterator[Any]:
    from data.llm.cache import ResponseCache
    from data.llm.chat import Asker
    from data.llm.openai_chat import OpenAIChat

    key_variable = asked.critic_key_variable or "OPENAI_API_KEY"
    chat = OpenAIChat(asked.critic, asked.critic_url, key_variable, 120.0)
    cache = ResponseCache(asked.out / "responses.sqlite")
    critic = ChatCritic(Asker(chat, cache, temperature=0.0, retry_failed=asked.retry_failed))
    try:
        yield critic
    finally:
        critic.close()
        cache.close()


def _forget(folder: Path) -> None:
    for name in ("draw.jsonl", "draw.meta.json"):
        (folder / name).unlink(missing_ok=True)


def _forget_missing(folder: Path) -> None:
    """Forget the rows whose picture somebody has deleted: they are due again."""
    path = folder / "draw.jsonl"
    if not path.exists():
        return
    with closing(RowFile(path)) as rows:
        pictures = {identity: rows.read(identity).get("image_path") for identity in rows.index}
        rows.rewrite(each for each, name in pictures.items() if not name or (folder / name).exists())


def _conclude(meta: StageMeta, folder: Path) -> int:
    """One line that adds up, what failed with an example of each kind, and the exit code."""
    lost = [f"{count} rejected ({reason})" for reason, count in meta.rejected.items()]
    lost += [f"{count} failed ({reason})" for reason, count in meta.failed.items()]
    print(", ".join([f"{meta.kept} of {meta.entered} pictures in {folder / 'images'}", *lost]))
    if not meta.failed:
        return 0
    failed = [row for row in read_rows(folder / "draw.jsonl") if "failed" in row]
    examples = {row["failed"]: f"{row['id']}: {row.get('detail', '')}" for row in reversed(failed)}
    for reason, count in meta.failed.items():
        again = "--retry-failed asks" if reason in PERMANENT else "the same command tries them"
        example = " ".join(examples[reason].split())[:SHOWN]
        print(f"{count} failed ({reason}), {again} again. The first is {example}", file=sys.stderr)
    return EXIT_WITH_FAILURES
