"""Text-to-image pipelines of diffusers: prompts are encoded first, then drawn in batches of one shape."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from data.errors import UserError, missing_package
from data.quality import Flaw
from data.records import Drawing
from generate_images.batches import BatchSize, NoRoom, in_batches, is_out_of_memory
from generate_images.drawn import Drawn, Size
from generate_images.encoding import RETURNS, TOGETHER, Encoded, Reading, encode, has_t5, read
from generate_images.quality import OVERFLOW, SAFETY_BLANKED
from generate_images.settings import MachineSettings, PictureSettings

if TYPE_CHECKING:
    import torch

ENCODED_AHEAD = 256  # prompts; their embeddings wait in main memory, about 3 MB each for SD-3
ON_CPU = 4  # pictures at once: more are not faster there
TO_MEASURE = 1  # pictures in the first batch on an accelerator
# What a picture depends on that a `Drawing` has no field of its own for.
BESIDES = {"variant", "lora", "lora_file", "scheduler_options", "safety_checker"}


class Work(NamedTuple):
    """One picture to draw."""

    place: int
    drawing: Drawing
    encoded: Encoded


class Diffusers:
    """A diffusers pipeline as a `StreamingGenerator`.

    Noise comes from one generator per picture, seeded on the CPU: the same on any device and in any
    company. Matrix products round a row by its place in the batch, though, so that company changes
    the last bits of the arithmetic; `exact` leaves a picture none.
    """

    def __init__(self, model: str, picture: PictureSettings, machine: MachineSettings) -> None:
        try:
            import diffusers  # noqa: F401
        except ImportError as error:
            raise missing_package("diffusers", "draw") from error
        from generate_images import models, placement

        if machine.exact and machine.batch_size not in (None, 1):
            raise UserError("--exact draws one picture at a time: leave --batch-size out.")
        self._settings = models.settings_for(model, picture)
        device = placement.pick_device(machine.device)
        dtype = placement.pick_dtype(self._settings.dtype, device)
        folder = models.fetch(self._settings.model or model, self._settings)
        self._settings = models.settings_for(str(folder), self._settings)  # a Hub model's family, now known
        self._pipe = models.load_pipeline(folder, self._settings, dtype)
        self._placement = placement.Placement(self._pipe, device, machine)
        self._revision, self._dtype, self._machine = models.revision_of(folder), dtype, machine
        named = models.folder_of(model)
        self.name = f"diffusers:{named.resolve().name if named else model}"
        self._sizes: dict[Size, BatchSize] = {}
        self._warned = False
        self._say_what_is_idle(picture)
        if machine.compile:
            _denoiser(self._pipe).compile()

    def plan(self, prompt: str, seed: int, size: Size | None = None) -> Drawing:
        """Everything the picture will depend on. Warns, once, when part of a prompt will be cut.

        Raises `UserError` for a size that the model cannot draw.
        """
        settings = self._settings
        reading = read(self._pipe, prompt, settings.max_sequence_length, settings.longest_sequence)
        if reading.cut and not self._warned:
            self._warned = True
            print(f"A prompt is too long for {self.name}; its row says so ({reading.note}).", file=sys.stderr)
        width, height = size or self._size()
        _check_size(self._pipe, width, height)
        return Drawing(
            generator=self.name, prompt=prompt, seed=seed, revision=self._revision,
            steps=settings.steps or _default(self._pipe, "num_inference_steps"),
            guidance=self._guidance(),
            width=width, height=height,
            negative_prompt=settings.negative_prompt if self._leads_away() else "",
            scheduler=type(self._pipe.scheduler).__name__,
            dtype=str(self._dtype).removeprefix("torch."), note=reading.note,
            settings=_besides(settings, reading.tokens),
        )  # fmt: skip

    def stream(self, drawings: Sequence[Drawing]) -> Iterator[Drawn]:
        """Pictures in batches of one size and prompt length. `UserError` when not even one fits."""
        for start in range(0, len(drawings), ENCODED_AHEAD):
            for group in self._groups(drawings[start : start + ENCODED_AHEAD], start):
                size = _size_of(group[0].drawing)
                batch_size = self._sizes.setdefault(size, self._first_batch_size())
                try:
                    yield from in_batches(
                        group, partial(self._draw, batch_size), batch_size, partial(self._relieve, batch_size)
                    )
                except NoRoom as error:
                    raise UserError(
                        f"Not even one picture of {size.width}x{size.height} fits into the memory of "
                        f"{self._placement.device}: add --offload model, or draw smaller."
                    ) from error

    def _groups(self, drawings: Sequence[Drawing], start: int) -> list[list[Work]]:
        """The drawings with their prompts encoded, sorted into what can share a batch."""
        settings = self._settings
        prompts = list(dict.fromkeys(drawing.prompt for drawing in drawings))
        readings = [
            read(self._pipe, prompt, settings.max_sequence_length, settings.longest_sequence)
            for prompt in prompts
        ]
        encoded = dict(zip(prompts, self._encode(readings, drawings[0]), strict=True))
        groups: dict[object, list[Work]] = {}
        for place, drawing in enumerate(drawings, start):
            work = Work(place, drawing, encoded[drawing.prompt])
            groups.setdefault((_size_of(drawing), work.encoded.shape), []).append(work)
        return list(groups.values())

    def _encode(self, readings: Sequence[Reading], like: Drawing) -> list[Encoded]:
        """The embeddings, and then the denoiser in place. `UserError` where the card is too small for the weights."""
        together = 1 if self._machine.exact else TOGETHER
        try:
            self._placement.to_encode()
            made = encode(self._pipe, readings, like.negative_prompt, like.guidance or 0.0, together)
            self._placement.to_draw()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            more = {"none": "add --offload model, or ", "model": "take --offload sequential, or "}
            raise UserError(
                f"The weights of {self.name} do not fit into the memory of {self._placement.device}: "
                f"{more.get(self._machine.offload, '')}draw with a smaller model."
            ) from error
        return made

    def _draw(self, size: BatchSize, batch: Sequence[Work]) -> list[Drawn]:
        """One call of the pipeline; the first one on a card shows how many fit."""
        before = None if size.found else self._placement.start_measuring()
        filled = list(batch)
        if self._machine.compile and size.found:
            filled += [batch[-1]] * (size.now - len(batch))  # the same shape again: nothing to recompile
        drawn = self._call(filled)[: len(batch)]
        if before is not None:
            free, taken = self._placement.measured(before)
            size.measured(free, taken // len(filled))
        return drawn

    def _call(self, batch: Sequence[Work]) -> list[Drawn]:
        import torch

        drawing = batch[0].drawing
        offered: dict[str, Any] = {
            "num_inference_steps": drawing.steps, "guidance_scale": drawing.guidance,
            "width": drawing.width, "height": drawing.height, "output_type": "pt",
            "generator": [torch.Generator("cpu").manual_seed(work.drawing.seed) for work in batch],
        } | self._prompts(batch)  # fmt: skip
        taken = inspect.signature(self._pipe.__call__).parameters
        try:
            output = self._pipe(**{name: value for name, value in offered.items() if name in taken})
        except ValueError as error:  # the pipeline's, or its scheduler's, own check of what it was given
            raise UserError(f"{self.name} cannot draw this: {' '.join(str(error).split())}") from error
        blanked = getattr(output, "nsfw_content_detected", None) or [False] * len(batch)
        return [
            _finish(work.place, image, flagged)
            for work, image, flagged in zip(batch, _images(output.images), blanked, strict=True)
        ]

    def _prompts(self, batch: Sequence[Work]) -> dict[str, Any]:
        """The batch's embeddings on the device; the texts themselves for a class we cannot encode for."""
        import torch

        if not batch[0].encoded.tensors:
            texts: dict[str, Any] = {"prompt": [work.drawing.prompt for work in batch]}
            if self._settings.max_sequence_length:
                texts["max_sequence_length"] = self._settings.max_sequence_length
            negative = batch[0].drawing.negative_prompt
            return texts | ({"negative_prompt": [negative] * len(batch)} if negative else {})
        return {
            name: torch.cat([work.encoded.tensors[name] for work in batch]).to(self._placement.device)
            for name in batch[0].encoded.tensors
        }

    def _relieve(self, size: BatchSize) -> bool:
        """Empty the cache; decode slice by slice, and in tiles where even one picture does not fit."""
        vae: Any = getattr(self._pipe, "vae", None)
        if getattr(vae, "dtype", self._dtype) != self._dtype:
            vae.to(dtype=self._dtype)  # SDXL decodes float16 in float32, and did not come to undo that
        self._placement.empty_cache()
        if size.now > 1 and hasattr(vae, "use_slicing") and not vae.use_slicing:
            vae.enable_slicing()
            return True
        if size.now == 1 and hasattr(vae, "use_tiling") and not vae.use_tiling:
            vae.enable_tiling()
            return True
        return False

    def _first_batch_size(self) -> BatchSize:
        on_cpu = self._placement.device.type == "cpu"
        fixed = 1 if self._machine.exact else self._machine.batch_size
        size = BatchSize(fixed, ON_CPU if on_cpu else TO_MEASURE)
        size.found = size.found or on_cpu
        return size

    def _guidance(self) -> float | None:
        asked = self._settings.guidance
        return _default(self._pipe, "guidance_scale") if asked is None else asked

    def _leads_away(self) -> bool:
        """Whether a negative prompt has an effect, as far as this class is known."""
        names = RETURNS.get(type(self._pipe).__name__)
        if names is None:
            return "negative_prompt" in inspect.signature(self._pipe.__call__).parameters
        return "negative_prompt_embeds" in names and (self._guidance() or 0.0) > 1

    def _say_what_is_idle(self, asked: PictureSettings) -> None:
        """Tell of what was asked for and changes nothing with this model."""
        if asked.negative_prompt and not self._leads_away():
            print(f"{self.name} makes no use of a negative prompt: it is not guided away.", file=sys.stderr)
        known = type(self._pipe).__name__ in RETURNS
        if "max_sequence_length" in asked.model_fields_set and known and not has_t5(self._pipe):
            print(f"{self.name} makes no use of max-sequence-length: it has no T5 encoder.", file=sys.stderr)

    def _size(self) -> Size:
        """As set; else what the model was trained for."""
        part = getattr(_denoiser(self._pipe), "config", None)
        side = getattr(self._pipe, "default_sample_size", None) or getattr(part, "sample_size", None) or 128
        tall, wide = side if isinstance(side, (list, tuple)) else (side, side)
        scale = getattr(self._pipe, "vae_scale_factor", 8)
        return Size(self._settings.width or wide * scale, self._settings.height or tall * scale)


def _check_size(pipe: Any, width: int, height: int) -> None:
    """Raise `UserError` where the sides are no multiples of what one latent patch stands for."""
    scale = getattr(pipe, "vae_scale_factor", 1)
    patch = getattr(pipe, "patch_size", None) or 1  # SD-3 keeps it apart, FLUX in its image processor
    processor = getattr(getattr(pipe, "image_processor", None), "config", None)
    step = max(scale * patch, getattr(processor, "vae_scale_factor", 1))
    if width % step or height % step:
        near = "x".join(str(max(step, side // step * step)) for side in (width, height))
        raise UserError(
            f"This model draws no picture of {width}x{height}: width and height must be multiples of {step}, "
            f"such as {near}."
        )
    most = (getattr(getattr(_denoiser(pipe), "config", None), "pos_embed_max_size", None) or 0) * step
    if most and max(width, height) > most:
        raise UserError(
            f"This model draws no picture of {width}x{height}: neither side may have more than {most} pixels."
        )


def _besides(settings: PictureSettings, tokens: int | None) -> str:
    """The settings without a field in a `Drawing`, as far as they are set, as JSON."""
    besides = settings.model_dump(include=BESIDES, exclude_defaults=True)
    if tokens := tokens or settings.max_sequence_length:
        besides["max_sequence_length"] = tokens
    return json.dumps(besides) if besides else ""


def _size_of(drawing: Drawing) -> Size:
    return Size(drawing.width or 0, drawing.height or 0)


def _denoiser(pipe: Any) -> Any:
    return getattr(pipe, "transformer", None) or getattr(pipe, "unet", None)


def _default(pipe: Any, parameter: str) -> Any:
    """What the pipeline itself takes where nobody says otherwise."""
    known = inspect.signature(pipe.__call__).parameters
    return known[parameter].default if parameter in known else None


def _images(images: torch.Tensor) -> list[tuple[Any, bool]]:
    """(h, w, 3) arrays of bytes, made on the device (less to transfer), and whether all was finite."""
    import torch

    finite = torch.isfinite(images).flatten(1).all(dim=1).cpu().tolist()
    pixels = (images.float().nan_to_num() * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return list(zip(pixels.cpu().contiguous().numpy(), finite, strict=True))


def _finish(place: int, made: tuple[Any, bool], blanked: bool) -> Drawn:
    from PIL import Image

    pixels, finite = made
    flaw: Flaw | None = SAFETY_BLANKED if blanked else None if finite else OVERFLOW
    return Drawn(place, Image.fromarray(pixels), flaw)
