"""The diffusers generator on its real path: tiny random pipelines saved to a folder and loaded from it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.errors import UserError
from data.records import Drawing
from generate_images.diffusion import Diffusers
from generate_images.draw import draw_pairs
from generate_images.drawn import Drawn, Size
from generate_images.generators import find_generator
from generate_images.settings import MachineSettings, PictureSettings, preset
from tests.tiny_diffusion import save_sd3, save_sd15, save_sdxl

REPOSITORY = Path(__file__).resolve().parents[1]
FAMILIES = {"sd3": save_sd3, "sdxl": save_sdxl, "sd15": save_sd15}
PROMPTS = ["a man in a dark jacket", "the red box near the lamp", "a table with a lamp", "dark red box"]
FEW = PictureSettings(steps=2)
FOURS = MachineSettings(device="cpu", batch_size=4)
EXACT = MachineSettings(device="cpu", exact=True)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models lose more by waiting for a second thread than it brings."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: save(tmp_path_factory.mktemp(name)) for name, save in FAMILIES.items()}


@pytest.fixture(scope="module")
def loaded(folders: dict[str, Path]) -> Callable[[str], Diffusers]:
    """One generator per family, drawing four at a time; tests leave it as it was."""
    made: dict[str, Diffusers] = {}

    def load(name: str) -> Diffusers:
        return made.setdefault(name, Diffusers(str(folders[name]), FEW, FOURS))

    return load


def plans(generator: Diffusers, prompts: Sequence[str] = PROMPTS) -> list[Drawing]:
    return [generator.plan(prompt, seed) for seed, prompt in enumerate(prompts)]


def pixels(drawn: Drawn) -> np.ndarray[Any, Any]:
    assert drawn.image is not None
    return np.asarray(drawn.image)


def draw(generator: Diffusers, drawings: Sequence[Drawing]) -> list[np.ndarray[Any, Any]]:
    """The pictures in the order of their drawings."""
    return [pixels(drawn) for drawn in sorted(generator.stream(drawings), key=lambda drawn: drawn.place)]


def apart(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> int:
    """The largest difference between two pictures, in levels of 255."""
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pair_alone_and_in_a_batch_of_four_is_the_same_picture_within_a_rounding(
    loaded: Callable[[str], Diffusers], family: str
) -> None:
    generator = loaded(family)
    drawings = plans(generator)
    together = draw(generator, drawings)
    backwards = draw(generator, drawings[::-1])[::-1]
    for drawing, first, second in zip(drawings, together, backwards, strict=True):
        alone = draw(generator, [drawing])[0]
        assert first.shape == (64, 64, 3)
        assert apart(first, alone) <= 1 and apart(first, second) <= 1
        assert (first == alone).mean() > 0.999
    assert len({picture.tobytes() for picture in together}) == len(PROMPTS)


@pytest.mark.parametrize("family", FAMILIES)
def test_drawn_exactly_a_pair_has_identical_bytes_in_any_company(
    folders: dict[str, Path], family: str
) -> None:
    generator = Diffusers(str(folders[family]), FEW, EXACT)
    drawings = plans(generator, [*PROMPTS, "a lamp", "a box", "the man", "the table", "dark", "red"])
    together = draw(generator, drawings)
    for place in (0, 3, 7, 9):
        assert draw(generator, [drawings[place]])[0].tobytes() == together[place].tobytes()
    other = draw(Diffusers(str(folders[family]), FEW, EXACT), drawings[5:])
    assert [picture.tobytes() for picture in other] == [picture.tobytes() for picture in together[5:]]


@pytest.mark.parametrize("family", FAMILIES)
def test_encoding_ahead_draws_what_one_plain_call_of_the_pipeline_draws(
    folders: dict[str, Path], loaded: Callable[[str], Diffusers], family: str
) -> None:
    import torch
    from diffusers import AutoPipelineForText2Image

    drawing = loaded(family).plan(PROMPTS[0], seed=7)
    pipe = AutoPipelineForText2Image.from_pretrained(folders[family])
    plain = pipe(
        PROMPTS[0], num_inference_steps=2, guidance_scale=drawing.guidance, width=64, height=64,
        generator=torch.Generator().manual_seed(7),
    ).images[0]  # fmt: skip
    assert apart(draw(loaded(family), [drawing])[0], np.asarray(plain)) <= 1


class SmallMemory:
    """A denoiser that runs out of memory above so many rows (two per picture: guidance), as a card does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, generator: Diffusers, rows: int) -> None:
        pipe: Any = generator._pipe
        part = getattr(pipe, "transformer", None) or pipe.unet
        self.forward, self.most, self.seen = part.forward, rows, []
        monkeypatch.setattr(part, "forward", self)

    def __call__(self, *given: Any, **named: Any) -> Any:
        import torch

        sample = named["hidden_states"] if "hidden_states" in named else given[0]
        self.seen.append(len(sample))
        if len(sample) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return self.forward(*given, **named)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_that_runs_out_of_memory_is_halved_and_no_picture_is_lost(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    generator = Diffusers(str(folders[family]), FEW, MachineSettings(device="cpu", batch_size=4))
    memory = SmallMemory(monkeypatch, generator, rows=4)
    prompts = [*PROMPTS, "a box", "a lamp"]
    drawn = draw(generator, plans(generator, prompts))
    assert [rows for rows in memory.seen if rows > 4] == [8, 8]  # once more with the VAE in slices
    assert set(memory.seen) == {8, 4}
    memory.most = 100
    again = draw(Diffusers(str(folders[family]), FEW, FOURS), plans(generator, prompts))
    assert all(apart(one, other) <= 1 for one, other in zip(drawn, again, strict=True))


def test_when_not_even_one_picture_fits_one_sentence_says_what_to_do(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Diffusers(str(folders["sd15"]), FEW, MachineSettings(device="cpu", batch_size=2))
    SmallMemory(monkeypatch, generator, rows=0)
    with pytest.raises(UserError, match=r"Not even one picture of 64x64 fits .* --offload model"):
        draw(generator, plans(generator))


@pytest.mark.parametrize("moment", ["to_encode", "to_draw"])
def test_weights_too_large_for_the_card_are_one_sentence(
    loaded: Callable[[str], Diffusers], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    import torch

    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")

    monkeypatch.setattr(loaded("sd3")._placement, moment, full)
    with pytest.raises(UserError, match=r"weights of diffusers:model do not fit .* add --offload model"):
        draw(loaded("sd3"), plans(loaded("sd3")))


def test_a_decoder_that_ran_out_of_memory_in_float32_is_put_back_into_float16(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    half = PictureSettings(steps=1, dtype="float16")
    generator = Diffusers(str(folders["sdxl"]), half, MachineSettings(device="cpu", batch_size=2))
    vae, tried = generator._pipe.vae, []
    decode = vae.decode

    def small(latents: Any, **named: Any) -> Any:
        tried.append(latents.dtype)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return decode(latents, **named)

    monkeypatch.setattr(vae, "decode", small)
    assert len(draw(generator, plans(generator, PROMPTS[:2]))) == 2
    assert tried == [torch.float32, torch.float32] and vae.dtype == torch.float16


def test_other_errors_of_the_pipeline_are_not_taken_for_want_of_memory(
    loaded: Callable[[str], Diffusers], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(loaded("sd15")._pipe.unet, "forward", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        draw(loaded("sd15"), plans(loaded("sd15")))


def test_pictures_of_several_sizes_come_each_in_its_own(loaded: Callable[[str], Diffusers]) -> None:
    generator = loaded("sd15")
    sizes = [Size(64, 64), Size(96, 64), Size(64, 64), Size(64, 96)]
    drawings = [generator.plan("a lamp", seed, size) for seed, size in enumerate(sizes)]
    shapes = [picture.shape for picture in draw(generator, drawings)]
    assert shapes == [(64, 64, 3), (64, 96, 3), (64, 64, 3), (96, 64, 3)]


@pytest.mark.parametrize("family", ["sdxl", "sd15"])
def test_clip_reads_a_long_prompt_in_pieces_and_its_end_counts(
    loaded: Callable[[str], Diffusers], family: str
) -> None:
    generator = loaded(family)
    long = "a man in a dark jacket beside the table with a lamp, " * 4
    drawings = [generator.plan(long + end, seed=1) for end in ("a red box", "a dog")]
    assert all("read in 3 pieces of at most 77" in drawing.note for drawing in drawings)
    one, other = draw(generator, drawings)
    assert apart(one, other) > 0
    assert apart(draw(generator, [drawings[0]])[0], one) <= 1


def test_t5_is_given_more_room_for_a_long_prompt(loaded: Callable[[str], Diffusers]) -> None:
    generator = loaded("sd3")
    drawings = [generator.plan("a lamp " * 140 + end, seed=1) for end in ("red box", "dark box")]
    assert drawings[0].note == "283 tokens: the T5 encoder was given 512"
    one, other = draw(generator, drawings)
    assert apart(one, other) > 0


def test_a_prompt_that_must_be_cut_says_so_in_its_row_and_once_aloud(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    generator = Diffusers(str(folders["sd3"]), FEW, FOURS)
    for _ in range(2):
        assert generator.plan("a lamp " * 300, seed=1).note == "cut: the T5 encoder reads 512 of 601 tokens"
    assert capsys.readouterr().err.count("too long") == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_the_negative_prompt_counts_where_there_is_guidance(folders: dict[str, Path], family: str) -> None:
    def drawn(**settings: Any) -> bytes:
        picture = PictureSettings(steps=2, **settings)
        generator = Diffusers(str(folders[family]), picture, EXACT)
        return draw(generator, plans(generator, ["a lamp"]))[0].tobytes()

    assert drawn(guidance=7.0, negative_prompt="a red box") != drawn(guidance=7.0)
    assert drawn(guidance=1.0, negative_prompt="a red box") == drawn(guidance=1.0)


def test_a_family_nobody_wrote_down_is_given_its_prompts_as_text(
    folders: dict[str, Path], loaded: Callable[[str], Diffusers], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = draw(loaded("sd15"), plans(loaded("sd15")))
    monkeypatch.setattr("generate_images.encoding.RETURNS", {})
    generator = Diffusers(str(folders["sd15"]), FEW, FOURS)
    unknown = draw(generator, plans(generator))
    assert all(apart(one, other) <= 1 for one, other in zip(known, unknown, strict=True))


def test_what_such_a_family_reads_of_a_prompt_is_what_its_call_says(
    loaded: Callable[[str], Diffusers],
) -> None:
    from generate_images.encoding import read

    class Unheard:
        tokenizer = loaded("sd15")._pipe.tokenizer

        def __call__(self, prompt: list[str], max_sequence_length: int = 20) -> None: ...

    assert read(Unheard(), "a lamp", None, 512).note == ""
    assert read(Unheard(), "a lamp " * 6, None, 512).note == "cut: the encoder reads 20 of 32 tokens"
    assert read(Unheard(), "a lamp " * 6, 40, 512).note == ""


def test_the_negative_prompt_of_many_is_once_in_memory(loaded: Callable[[str], Diffusers]) -> None:
    from generate_images.encoding import Reading, encode

    made = encode(loaded("sd3")._pipe, [Reading((prompt,), 256) for prompt in PROMPTS], "a box", 7.0)
    assert len({each.tensors["negative_prompt_embeds"].data_ptr() for each in made}) == 1


def test_a_picture_the_safety_checker_blanks_is_tried_again_and_then_rejected(tmp_path: Path) -> None:
    from data.records import Pair

    model = str(save_sd15(tmp_path / "checked", safety_checker=True))
    pair = Pair(id="p1", category="Hate", sub_category="x", image_description="a man in a dark jacket")
    (rejected,) = draw_pairs([pair], Diffusers(model, FEW, FOURS), tmp_path / "run")
    assert isinstance(rejected, Pair) and rejected.rejected is not None and rejected.drawing is not None
    assert rejected.rejected.reason == "safety_blanked"
    assert [attempt.problem for attempt in rejected.drawing.attempts] == ["safety_blanked"] * 3
    assert len({attempt.seed for attempt in rejected.drawing.attempts}) == 3
    assert not list((tmp_path / "run").rglob("*.png"))
    unchecked = Diffusers(model, PictureSettings(steps=2, safety_checker=False), FOURS)
    (drawn,) = draw_pairs([pair], unchecked, tmp_path / "run")
    assert isinstance(drawn, Pair) and drawn.rejected is None


def test_numbers_that_overflow_are_no_picture(
    loaded: Callable[[str], Diffusers], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = loaded("sd15")
    decode = generator._pipe.vae.decode

    def overflowing(latents: Any, **named: Any) -> Any:
        (image, *rest) = decode(latents, **named)
        image[1] = float("nan")
        return (image, *rest)

    monkeypatch.setattr(generator._pipe.vae, "decode", overflowing)
    problems = [drawn.problem for drawn in generator.stream(plans(generator))]
    assert [problem and problem.reason for problem in problems] == [None, "not_finite", None, None]


def test_a_lora_and_another_scheduler_change_the_picture_and_the_row(
    folders: dict[str, Path], loaded: Callable[[str], Diffusers], tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    import torch
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(folders["sd15"] / "unet")
    unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False))
    layers = peft.utils.get_peft_model_state_dict(unet)
    assert all(isinstance(layer, torch.Tensor) for layer in layers.values())
    StableDiffusionPipeline.save_lora_weights(tmp_path, unet_lora_layers=layers)
    picture = PictureSettings(
        steps=2, lora=str(tmp_path), lora_file="pytorch_lora_weights.safetensors", scheduler="LCMScheduler"
    )
    generator = Diffusers(str(folders["sd15"]), picture, FOURS)
    assert generator.plan("a lamp", 1).scheduler == "LCMScheduler"
    changed, plain = (draw(each, plans(each))[0] for each in (generator, loaded("sd15")))
    assert apart(changed, plain) > 1
    same_scheduler = Diffusers(str(folders["sd15"]), picture.model_copy(update={"scheduler": None}), FOURS)
    assert apart(draw(same_scheduler, plans(same_scheduler))[0], plain) > 0


def test_a_lora_that_changes_nothing_or_does_not_fit_is_one_sentence(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    import torch
    from safetensors.torch import save_file

    layer = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_{}.weight"
    save_file(
        {layer.format("A"): torch.zeros(2, 7), layer.format("B"): torch.zeros(7, 2)},
        tmp_path / "l.safetensors",
    )
    for family, said in (("sd3", "none of its layers is one of the model's"), ("sdxl", "size mismatch")):
        with pytest.raises(UserError, match=f"does not fit this model: .*{said}") as error:
            Diffusers(
                str(folders[family]), PictureSettings(lora=str(tmp_path), lora_file="l.safetensors"), FOURS
            )
        assert "\n" not in str(error.value)


def test_scheduler_options_alone_are_for_the_models_own_scheduler(folders: dict[str, Path]) -> None:
    picture = PictureSettings(steps=2, scheduler_options={"timestep_spacing": "trailing"})
    generator = Diffusers(str(folders["sdxl"]), picture, FOURS)
    assert generator._pipe.scheduler.config.timestep_spacing == "trailing"
    assert generator.plan("a lamp", 1).scheduler == "EulerDiscreteScheduler"


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("sd3", {"max_sequence_length": 64}),
        ("sdxl", {"scheduler_options": {"timestep_spacing": "trailing"}}),
        ("sd15", {"safety_checker": False}),
    ],
)
def test_made_again_with_another_setting_a_picture_is_drawn_again(
    folders: dict[str, Path], tmp_path: Path, family: str, settings: dict[str, Any]
) -> None:
    from generate_images.writer import is_drawn, save_picture

    def first(picture: PictureSettings) -> tuple[Drawing, Any]:
        generator = Diffusers(str(folders[family]), picture, EXACT)
        drawing = generator.plan(PROMPTS[0], 1)
        return drawing, next(iter(generator.stream([drawing]))).image

    (before, image), path = first(FEW), tmp_path / "p.png"
    save_picture(image, path, before)
    after = first(PictureSettings(steps=2, **settings))[0]
    assert is_drawn(path, first(FEW)[0]) and not is_drawn(path, after)
    assert all(f'"{name}"' in after.settings for name in settings)


def test_what_this_model_makes_nothing_of_is_said_aloud(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = PictureSettings(steps=2, guidance=0.0, negative_prompt="blurry", max_sequence_length=64)
    Diffusers(str(folders["sdxl"]), asked, FOURS)
    said = capsys.readouterr().err
    assert "no use of a negative prompt" in said and "no use of max-sequence-length" in said
    Diffusers(str(folders["sd3"]), asked.model_copy(update={"guidance": 7.0}), FOURS)
    assert "no use" not in capsys.readouterr().err


def test_without_its_t5_encoder_a_long_prompt_is_cut_and_the_row_says_so(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    from diffusers import StableDiffusion3Pipeline

    small = StableDiffusion3Pipeline.from_pretrained(folders["sd3"], text_encoder_3=None)
    small.save_pretrained(tmp_path / "small")
    generator = Diffusers(str(tmp_path / "small"), FEW, FOURS)
    drawing = generator.plan("a lamp " * 50, seed=1)
    assert drawing.note.startswith("cut: the encoder reads 77 of")
    assert len(draw(generator, [drawing])) == 1


def test_a_plan_tells_how_to_draw_the_picture_again(folders: dict[str, Path]) -> None:
    picture = PictureSettings(steps=3, guidance=2.5, negative_prompt="blurry")
    drawing = Diffusers(str(folders["sdxl"]), picture, FOURS).plan("a lamp", 5)
    assert drawing.revision.startswith("folder-") and drawing.generator == "diffusers:model"
    assert (drawing.steps, drawing.guidance, drawing.negative_prompt) == (3, 2.5, "blurry")
    assert (drawing.width, drawing.height, drawing.dtype) == (64, 64, "float32")


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_a_negative_prompt_without_effect_is_not_on_record(folders: dict[str, Path], guidance: float) -> None:
    picture = PictureSettings(steps=2, guidance=guidance, negative_prompt="blurry")
    assert Diffusers(str(folders["sdxl"]), picture, FOURS).plan("a lamp", 5).negative_prompt == ""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_size_the_model_cannot_draw_is_said_before_drawing(
    loaded: Callable[[str], Diffusers], family: str
) -> None:
    with pytest.raises(UserError, match=r"no picture of 100x64: .* multiples of 8, such as 96x64"):
        loaded(family).plan("a lamp", 1, Size(100, 64))


def test_a_size_beyond_the_models_positions_is_said_before_drawing(
    loaded: Callable[[str], Diffusers],
) -> None:
    with pytest.raises(UserError, match="no picture of 1024x64: neither side may have more than 768 pixels"):
        loaded("sd3").plan("a lamp", 1, Size(1024, 64))


def test_what_the_pipeline_itself_refuses_is_one_sentence(folders: dict[str, Path]) -> None:
    generator = Diffusers(str(folders["sd15"]), PictureSettings(steps=60, scheduler="LCMScheduler"), FOURS)
    with pytest.raises(UserError, match=r"diffusers:model cannot draw this: .* smaller than"):
        draw(generator, plans(generator))


def test_other_weights_are_another_revision(folders: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    from generate_images.models import revision_of

    copy = tmp_path / "copy"
    shutil.copytree(folders["sd15"], copy)
    assert revision_of(copy) == revision_of(folders["sd15"])
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert revision_of(copy) != revision_of(folders["sd15"])


def test_presets_know_the_papers_model_and_what_is_asked_for_wins() -> None:
    paper = preset("stabilityai/stable-diffusion-3.5-large", "StableDiffusion3Pipeline")
    assert (paper.steps, paper.guidance, paper.max_sequence_length) == (28, 3.5, 256)
    asked = PictureSettings(guidance=6.0).over(paper)
    assert (asked.steps, asked.guidance) == (28, 6.0)
    assert preset("black-forest-labs/FLUX.1-dev", "FluxPipeline").steps == 50  # its card's
    assert preset("somebody/unknown", "StableDiffusionXLPipeline").steps == 30
    assert preset("somebody/unknown", "UnheardOfPipeline") == PictureSettings()


@pytest.mark.parametrize(
    ("picture", "machine", "said"),
    [
        ({"scheduler": "EulerScheduler"}, {"device": "cpu"}, "Unknown scheduler 'EulerScheduler'; choose"),
        ({"scheduler": "FlowMatchEulerDiscreteScheduler"}, {"device": "cpu"}, "does not go with this model"),
        ({"scheduler": "UnCLIPScheduler"}, {"device": "cpu"}, "The scheduler UnCLIPScheduler cannot be used"),
        ({"scheduler_options": {"spacing": "even"}}, {"device": "cpu"}, "has no option 'spacing'; leave it"),
        ({}, {"device": "cuda:7"}, "There is no cuda:7 device here"),
        ({}, {"device": "gpu"}, "Unknown device 'gpu'; choose from: auto, cpu, cuda"),
        ({}, {"device": "cpu", "offload": "model"}, "there is none: leave --offload out"),
        ({}, {"device": "cpu", "exact": True, "batch_size": 4}, "--exact draws one picture at a time"),
        ({"lora": "no-such-folder"}, {"device": "cpu"}, "no-such-folder"),
        (
            {"lora": str(REPOSITORY / "docs"), "lora_file": "a.safetensors"},
            {"device": "cpu"},
            "docs holds no a.safe",
        ),
    ],
)
def test_a_mistake_is_one_sentence(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, picture: Any, machine: Any, said: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as error:
        Diffusers(str(folders["sd15"]), PictureSettings(**picture), MachineSettings(**machine))
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("paint", "Unknown generator 'paint'; choose from: sketch, diffusers:OWNER/MODEL"),
        ("diffusers:", "Unknown generator 'diffusers:'"),
        ("diffusers:no/such/folder", "There is no folder no/such/folder; a model of the Hub is written"),
        (f"diffusers:{REPOSITORY}", "holds no diffusers pipeline: it has no model_index.json"),
    ],
)
def test_an_unknown_model_is_said_without_loading_anything(name: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        find_generator(name)
    assert said in str(error.value)


def test_finding_a_generator_imports_no_heavy_library() -> None:
    code = (
        "import sys\nfrom generate_images.generators import find_generator\n"
        "find_generator('diffusers:stabilityai/sdxl-turbo'); find_generator('openai-images:m')\n"
        "assert not {'torch', 'diffusers', 'transformers', 'openai'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_a_hub_model_that_cannot_be_fetched_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="nobody/nothing could not be fetched from the Hub, and there is no"):
        Diffusers("nobody/nothing", FEW, MachineSettings(device="cpu"))


def test_a_missing_package_names_the_extra(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"diffusers: run `pip install -e '\.\[draw\]'`"):
        Diffusers(str(folders["sd15"]), FEW, FOURS)


def test_a_damaged_pipeline_is_one_sentence(folders: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folders["sd15"], copy)
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        Diffusers(str(copy), FEW, FOURS)
