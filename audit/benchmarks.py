"""Adapters by name for the benchmarks of the field, in the layouts that their authors ship.

    read_benchmark("mm-safetybench:rephrased", "MM-SafetyBench/data")
    -> Source(benchmark="mm-safetybench:rephrased", rows=(SourceRow(id="06-Fraud/0", ...), ...))

A benchmark that is a table with other column names needs one entry here; one whose records are not rows
needs a function in expansions.py too.
"""

from __future__ import annotations

from pathlib import Path

from audit.expansions import figstep, harmbench, holisafe, mm_safetybench, mossbench, mssbench, vlguard
from audit.layouts import Layout, Variant, columns, likeliest_variant, locate, open_table, read_layout
from data.errors import UserError, unknown
from data.sources.source_rows import Source

MM_SAFETYBENCH = Variant(("processed_questions/*.json",))
SAFEBENCH = Variant(("question/safebench.csv",))
MSSBENCH = Variant(("combined.json", "combine.json"))
VLGUARD = Variant(("test.json", "train.json"))
MSTS_LANGUAGES = (
    "arabic",
    "chinese",
    "farsi",
    "french",
    "german",
    "hindi",
    "italian",
    "korean",
    "russian",
    "spanish",
)

BENCHMARKS: dict[str, Layout] = {
    "vlsbench": Layout(  # github.com/AI45Lab/VLSBench, hf:Foreshhh/vlsbench
        variants={"all": Variant(("data.json",))},
        marks={"instruction_id", "instruction", "image_path", "safety_reason"},
        columns=columns(
            id="instruction_id",
            query="instruction",
            image_description="image_description",
            image="image_path|image",
            category="category",
            sub_category="sub_category",
        ),
    ),
    "figstep": Layout(  # github.com/ThuCCSLab/FigStep
        variants={
            "question": SAFEBENCH,
            "prompt": SAFEBENCH,
            "tiny": Variant(("question/SafeBench-Tiny.csv",)),
        },
        marks={"category_id", "task_id", "category_name", "question", "instruction"},
        images=("images/SafeBench", "images/SafeBench-Tiny"),
        expand=figstep,
    ),
    "mm-safetybench": Layout(  # github.com/isXinLiu/MM-SafetyBench
        variants=dict.fromkeys(("rephrased", "original", "typographic", "sd"), MM_SAFETYBENCH),
        marks={"Question", "Changed Question", "Key Phrase", "Rephrased Question"},
        images=("imgs", "."),
        expand=mm_safetybench,
    ),
    "jailbreakv-28k": Layout(  # hf:JailbreakV-28K/JailBreakV-28k
        variants={
            "all": Variant(("JailBreakV_28K.csv",)),
            "mini": Variant(("mini_JailBreakV_28K.csv",)),
            "raw": Variant(("JailBreakV_28K.csv",), {"query": ("redteam_query",)}),
        },
        marks={"jailbreak_query", "redteam_query", "image_path"},
        columns=columns(
            id="id", query="jailbreak_query", image="image_path", category="policy", sub_category="format"
        ),
    ),
    "harmbench-multimodal": Layout(  # github.com/centerforaisafety/HarmBench
        variants={
            "all": Variant(("behavior_datasets/harmbench_behaviors_multimodal_all.csv",)),
            "redacted": Variant(
                ("behavior_datasets/harmbench_behaviors_multimodal_all.csv",),
                {"image_description": ("RedactedImageDescription",)},
            ),
        },
        marks={"Behavior", "BehaviorID", "ImageFileName", "RedactedImageDescription"},
        columns=columns(
            id="BehaviorID",
            query="Behavior",
            image_description="ImageDescription",
            image="ImageFileName",
            category="SemanticCategory",
        ),
        images=("multimodal_behavior_images", "images", "."),
        expand=harmbench,
    ),
    "vlguard": Layout(  # github.com/ys-zong/VLGuard
        variants=dict.fromkeys(("all", "unsafes", "safe_unsafes", "safe_safes"), VLGUARD),
        marks={"instr-resp", "image", "safe"},
        images=("test", "train", "images", "."),
        expand=vlguard,
    ),
    "vlsafe": Layout(  # hf:YangyiYY/LVLM_NLF; the images are COCO's train2017
        variants={
            "examine": Variant(("harmlessness_examine.jsonl", "VLSafe_harmlessness_examine.jsonl")),
            "alignment": Variant(
                (
                    "harmlessnss_alignment.jsonl",  # as its authors spell it
                    "harmlessness_alignment.jsonl",
                    "VLSafe_harmlessnss_alignment.jsonl",
                    "VLSafe_harmlessness_alignment.jsonl",
                )
            ),
        },
        marks={"image_id", "query", "caption"},
        columns=columns(query="query", image_description="caption", image="image_id"),
        images=("train2017", "images", "imgs", "."),
    ),
    "spa-vl": Layout(  # hf:sqrti/SPA-VL
        variants={
            name: Variant((f"test/{name}-*.parquet", f"test/{name}/*.parquet")) for name in ("harm", "help")
        },
        marks={"question", "image", "class1", "class2", "class3"},
        columns=columns(id="id", query="question", image="image", category="class1", sub_category="class2"),
    ),
    "siuo": Layout(  # github.com/sinwang20/SIUO
        variants={"gen": Variant(("siuo_gen.json",)), "mcqa": Variant(("siuo_mcqa.json",))},
        marks={"question_id", "image", "question", "category", "safety_warning"},
        columns=columns(id="question_id", query="question", image="image", category="category"),
    ),
    "mssbench": Layout(  # github.com/eric-ai-lab/MSSBench, hf:kzhou35/mssbench
        variants=dict.fromkeys(("all", "chat", "embodied"), MSSBENCH),
        marks={"safe_image_path", "unsafe_image_path", "queries"},
        expand=mssbench,
        lists=("chat", "embodied"),
    ),
    "msts": Layout(  # github.com/paul-rottger/msts-multimodal-safety
        variants={
            "multimodal": Variant(("prompts/english_multimodal.csv",)),
            "text-only": Variant(("prompts/english_textonly.csv",)),
            **{name: Variant((f"prompts/{name}_multimodal.csv",)) for name in MSTS_LANGUAGES},
        },
        marks={"hazard_category", "unsafe_image_description", "prompt_text", "case_id"},
        columns=columns(
            id="prompt_id|case_id",  # translations have one prompt per case and no ids of their own
            query="prompt_text",
            image_description="unsafe_image_description",
            image="unsafe_image|unsafe_image_id",
            image_key="case_id",
            category="hazard_category",
            sub_category="hazard_subcategory",
        ),
        images=("unsafe_images", "images", "."),
    ),
    "mossbench": Layout(  # github.com/xirui-li/MOSSBench, hf:AIcell/MOSSBench
        variants={
            "oversensitivity": Variant(("data/images_information/information.json", "metadata.csv")),
            "contrast": Variant(("data_contrast/images_information/information.json",)),
        },
        marks={"pid", "question", "short description"},
        columns=columns(
            id="pid",
            query="question",
            image_description="description|short description",
            image="image|file_name",
            category="metadata.over|metadata_over",
            is_safe="is_safe",
        ),
        images=(".", "images"),
        expand=mossbench,
    ),
    "ch3ef": Layout(  # hf:openlamm/Ch3Ef
        variants={
            name.lower(): Variant((f"meta_file/{name}.json",)) for name in ("Harmless", "Helpful", "Honest")
        },
        marks={"query", "image", "source", "options"},
        columns=columns(id="id", query="query", image="image", category="source"),
        images=(".", "images", "Harmless_images", "Helpful_images", "Honest_images"),
    ),
    "beavertails-v": Layout(  # hf:saferlhf-v/BeaverTails-V
        variants={name: Variant((f"data/*/{name}.parquet",)) for name in ("evaluation", "train")},
        marks={"question", "image", "category", "image_severity"},
        columns=columns(query="question", image="image", category="category"),
    ),
    "holisafe": Layout(  # github.com/youngwanLEE/holisafe, hf:etri-vilab/holisafe-bench
        variants={"all": Variant(("holisafe_bench.json",))},
        marks={"query", "image", "type", "image_safe"},
        columns=columns(
            id="id",
            query="query",
            image="image",
            category="category",
            sub_category="subcategory",
            is_safe="is_safe",
        ),
        images=("images", "."),
        expand=holisafe,
    ),
}


def read_benchmark(
    name: str, path: Path | str, *, data_root: Path | None = None, unpack_to: Path | None = None
) -> Source:
    """Read a benchmark by the name of its layout, with a variant after a colon where it has several.

    Without one it is the variant whose file was given, or lies there; of several the first.
    `path` is the benchmark's folder, one of its files, or `hf:owner/name`. `data_root` and `unpack_to`
    are as in `data.sources.reader.read_source`. UserError for an unknown name or variant, or another layout.
    """
    base, _, variant = name.partition(":")
    if base not in BENCHMARKS:
        raise unknown("benchmark", base, BENCHMARKS)
    layout = BENCHMARKS[base]
    if variant and variant not in layout.variants:
        raise unknown(f"variant of {base}", variant, layout.variants)
    try:
        variant = variant or likeliest_variant(layout, Path(path))
        source = read_layout(layout, variant, str(path), data_root, unpack_to)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
    files = {each.files for each in layout.variants.values()}
    unsaid = str(path).startswith("hf:") and len(files) > 1  # a Hub dataset does not say which file it was
    return source.replace(benchmark=base if unsaid else f"{base}:{variant}")


def guess_benchmark(path: Path | str) -> str | None:
    """The one layout that a folder's or a file's names and columns are those of; None for none or several."""
    opened: dict[tuple[Path, bool], frozenset[str]] = {}
    fitting = {name for name, layout in BENCHMARKS.items() if _fits(layout, Path(path), opened)}
    return fitting.pop() if len(fitting) == 1 else None


def _fits(layout: Layout, place: Path, opened: dict[tuple[Path, bool], frozenset[str]]) -> bool:
    """Whether a file of any variant has the layout's columns; `opened` keeps what each file has."""
    for variant in layout.variants.values():
        try:
            for _, file in locate(place, variant.files)[:1]:
                key = file, bool(layout.lists)
                if key not in opened:
                    opened[key] = frozenset()  # where it cannot be read
                    opened[key] = frozenset(open_table(layout, file).columns)
                if layout.marks <= opened[key] and not _loses_ids(layout, opened[key]):
                    return True
        except (UserError, OSError):
            continue
    return False


def _loses_ids(layout: Layout, names: frozenset[str]) -> bool:
    """Whether the rows have ids that the layout knows nothing of: then it is another table with its columns."""
    return layout.expand is None and not layout.columns.id and "id" in names
