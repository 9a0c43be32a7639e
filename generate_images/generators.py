"""The generators by name, and the little that each of them does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from data.errors import UserError, unknown
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
    picture once, in whatever order its batches make of it.
    """

    name: str

    def plan(self, prompt: str, seed: int, size: Size | None = None) -> Drawing: ...

    def stream(self, drawings: Sequence[Drawing]) -> Iterator[Drawn]: ...


Generator = ImageGenerator | StreamingGenerator


def plan(generator: Generator, prompt: str, seed: int, size: Size | None = None) -> Drawing:
    """What a generator would draw of a prompt."""
    if isinstance(generator, StreamingGenerator):
        return generator.plan(prompt, seed, size)
    if size is not None:
        raise UserError(f"{generator.name} draws one size only: leave width and height out of the rows.")
    return Drawing(generator=generator.name, prompt=prompt, seed=seed)


def stream(generator: Generator, drawings: Sequence[Drawing]) -> Iterator[Drawn]:
    """Each drawing's picture, as soon as there is one."""
    if isinstance(generator, StreamingGenerator):
        yield from generator.stream(drawings)
        return
    for start in range(0, len(drawings), AT_ONCE):
        some = drawings[start : start + AT_ONCE]
        images = generator.draw([each.prompt for each in some], [each.seed for each in some])
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
NAMES = [*GENERATORS, "diffusers:OWNER/MODEL", "diffusers:FOLDER", "openai-images:MODEL"]


def find_generator(
    name: str,
    picture: PictureSettings = PictureSettings(),  # noqa: B008 - frozen
    machine: MachineSettings = MachineSettings(),  # noqa: B008
) -> Callable[[], Generator]:
    """What loads the generator called `name`; an unknown name lists the valid ones. Loads nothing itself."""
    family, _, model = name.partition(":")
    if family in FAMILIES and model:
        if family == "diffusers":
            from generate_images.models import check_model

            check_model(model)
        return partial(FAMILIES[family], model, picture, machine)
    if name not in GENERATORS:
        raise unknown("generator", name, NAMES)
    return GENERATORS[name]


def load_generator(
    name: str,
    picture: PictureSettings = PictureSettings(),  # noqa: B008 - frozen
    machine: MachineSettings = MachineSettings(),  # noqa: B008
) -> Generator:
    """The generator called `name`, ready to draw."""
    return find_generator(name, picture, machine)()
