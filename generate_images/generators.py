"""The generators by name, and the little that each of them does."""

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from data.errors import RowFailed, UserError, unknown
from data.records import Drawing
from generate_images.drawn import Drawn, Size
from generate_images.settings import MachineSettings, PictureSettings

if TYPE_CHECKING:
    from PIL.Image import Image

AT_ONCE = 8  # pictures asked of a generator that does not stream; they are in memory together


class ImageGenerator(Protocol):
    """Draws one image per prompt; the same prompt and seed give the same image."""

    name: str

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image]: ...


@runtime_checkable
class StreamingGenerator(Protocol):
    """Says beforehand how it will draw, and hands pictures over while it draws the next.

    `plan` completes a drawing with model revision, steps, size and so on. `stream` yields each
    picture once, in whatever order its batches make of it. A Ctrl-C is raised in it, wherever it comes:
    it may yield what would be lost, one picture twice even, before it raises that on.
    """

    name: str

    def plan(self, prompt: str, seed: int, size: Size | None = None) -> Drawing: ...

    def stream(self, drawings: Sequence[Drawing]) -> Iterator[Drawn]: ...


Generator = ImageGenerator | StreamingGenerator
Stream = abc.Generator[Drawn, None, None]


def plan(generator: Generator, prompt: str, seed: int, size: Size | None = None) -> Drawing:
    """What a generator would draw of a prompt."""
    if isinstance(generator, StreamingGenerator):
        return generator.plan(prompt, seed, size)
    if size is not None:
        raise UserError(f"{generator.name} draws one size only: leave width and height out of the rows.")
    return Drawing(generator=generator.name, prompt=prompt, seed=seed)


def stream(generator: Generator, drawings: Sequence[Drawing]) -> Stream:
    """Each drawing's picture, as soon as there is one."""
    if isinstance(generator, StreamingGenerator):
        yield from generator.stream(drawings)
        return
    for start in range(0, len(drawings), AT_ONCE):
        some = drawings[start : start + AT_ONCE]
        images = generator.draw([each.prompt for each in some], [each.seed for each in some])
        if len(images) != len(some):  # nobody can tell which picture is missing
            short = RowFailed("no_image", f"{len(images)} pictures came for {len(some)} prompts")
            yield from (Drawn(place, None, short) for place in range(start, start + len(some)))
            continue
        for place, image in enumerate(images, start):
            yield Drawn(place, image)


def _sketch() -> Generator:
    from data.embedders import load_embedder
    from generate_images.sketch import Sketch

    return Sketch(load_embedder("minilm"))


def _diffusers(model: str, picture: PictureSettings, machine: MachineSettings) -> Generator:
    from generate_images.diffusion import Diffusers

    return Diffusers(model, picture, machine)


def _openai_images(model: str, picture: PictureSettings, machine: MachineSettings) -> Generator:
    from generate_images.openai_images import OpenAIImages

    return OpenAIImages(model, picture, machine)


GENERATORS: dict[str, Callable[[], Generator]] = {"sketch": _sketch}
FAMILIES: dict[str, Callable[[str, PictureSettings, MachineSettings], Generator]] = {
    "diffusers": _diffusers,
    "openai-images": _openai_images,
}
TAKES = {  # the settings that each family heeds
    "diffusers": {*PictureSettings.model_fields, "batch_size", "exact", "offload", "encoders", "compile"},
    "openai-images": {"width", "height", "base_url", "key_variable", "timeout_seconds", "workers"},
}
SERVER_TAKES = {"steps", "guidance", "negative_prompt"}  # one's own, beside those
NAMES = [*GENERATORS, "diffusers:OWNER/MODEL", "diffusers:FOLDER", "openai-images:MODEL"]


def find_generator(
    name: str,
    picture: PictureSettings = PictureSettings(),  # noqa: B008 - frozen
    machine: MachineSettings = MachineSettings(),  # noqa: B008
) -> Callable[[], Generator]:
    """What loads the generator called `name`; an unknown name lists the valid ones. Loads nothing itself.

    Raises `UserError` for settings that this generator would do nothing with.
    """
    family, _, model = name.partition(":")
    if family in FAMILIES and model:
        if family == "diffusers":
            from generate_images.models import check_model

            check_model(model)
        _check_taken(name, TAKES[family], picture, machine)
        return partial(FAMILIES[family], model, picture, machine)
    if name not in GENERATORS:
        raise unknown("generator", name, NAMES)
    _check_taken(name, set(), picture, machine)
    return GENERATORS[name]


def _check_taken(name: str, taken: set[str], picture: PictureSettings, machine: MachineSettings) -> None:
    """Raise `UserError` for what was set and would have no effect."""
    if "base_url" in taken and machine.images_url:
        taken = taken | SERVER_TAKES
    elsewhere = {"device"}  # a similarity model works there too
    idle = (picture.model_fields_set | machine.model_fields_set) - taken - elsewhere
    if idle:
        named = ", ".join(each.replace("_", "-") for each in sorted(idle))
        raise UserError(
            f"The generator {name} would do nothing with these settings; leave them out: {named}."
        )


def load_generator(
    name: str,
    picture: PictureSettings = PictureSettings(),  # noqa: B008 - frozen
    machine: MachineSettings = MachineSettings(),  # noqa: B008
) -> Generator:
    """The generator called `name`, ready to draw."""
    return find_generator(name, picture, machine)()
