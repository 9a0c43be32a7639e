r"""Trains the cross-encoder that reads a query and a description word beside word: does the first give the second away?

    python -m audit.cross_encoder audit/calibration/situations/*.toml rated.jsonl --out READER
    python -m audit.cross_encoder audit/calibration/situations/*.toml --hold-out --out HELD_OUT
    python -m audit.calibrate ... --cross-encoder READER HELD_OUT

Every query is read beside a view of its own picture, another one in every epoch, and a leaking one beside
pictures of other topics too, where it is no leak. On texts that it learned from it looks better than it is: they are
measured, for the fit of the coefficients, by one that did not learn from them, or take no part in that fit.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from audit.calibrations import FACTS
from audit.labelled import LabelledPair, caption_of, read_labelled, source_of
from audit.spans import both_texts
from data.cross_encoder import WEIGHTS, Pair, load_classifier, tokenized
from data.errors import UserError, missing_package, run_cli

if TYPE_CHECKING:
    from torch import Tensor, nn

    from data.embedders import SentenceEmbedder

RANK = 8  # of the change to every linear map
EPOCHS = 2  # the second changed little on texts of strangers, so more were not tried to the end
BENCHMARK_READINGS = 2  # of a benchmark's rated pair in an epoch, for there are few
BATCH = 32
LEARNING_RATE = 1e-3
WARM_UP = 200  # steps
CAPTIONED = 0.25  # share of the views that are dressed as a captioning model would word them
OTHERS = 2  # pictures of other topics that a leaking query is read beside in an epoch
OTHERS_WEIGHT = 0.45  # of such a reading
SLACK = 0.02  # no label is trusted beyond this
LEFT_TO_THE_FIT = 5  # every fifth writer
SORTED = 40 * BATCH  # readings that are sorted by length together, so that little is padded


class Reading(NamedTuple):
    """One pair to learn from."""

    pair: Pair
    leak: float
    weight: float


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m audit.cross_encoder", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="situations, a writer each; rated pairs"
    )
    parser.add_argument("--embedder", default="minilm", help="text embedder (default: minilm)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"default: {EPOCHS}")
    parser.add_argument(
        "--hold-out", action="store_true",
        help="learn from no benchmark and not from every fifth writer: to measure these",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of views, order and first weights (default: 0)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for the weights")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.epochs < 1:
        raise UserError("--epochs takes a number from 1 upwards.")
    if arguments.out.exists() and not arguments.out.is_dir():
        raise UserError(f"--out names a folder; {arguments.out} is a file.")
    from data.embedders import SentenceEmbedder, load_embedder
    from data.rows import check_writable

    check_writable(arguments.out)

    embedder = load_embedder(arguments.embedder)
    if not isinstance(embedder, SentenceEmbedder):
        raise UserError(f"{arguments.embedder} is no transformer that could learn to read pairs.")
    pairs = [pair for file in arguments.files for pair in read_labelled(file)]
    sources = sorted({source_of(pair) for pair in pairs if pair.picture})
    learned = list(_learned(pairs, sources)) if arguments.hold_out else sources
    pairs = [pair for pair in pairs if source_of(pair) in learned]
    if {pair.leak for pair in pairs} != {0, 1}:
        raise UserError("A cross-encoder learns from situations that leak and situations that do not.")
    facts = {
        "embedder": arguments.embedder,
        "epochs": arguments.epochs,
        "rank": RANK,
        "seed": arguments.seed,
        "sources": learned,
    }
    nearest = arguments.out if arguments.out.is_dir() else arguments.out.parent
    nearest.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=nearest, prefix=".part-") as aside:
        made = Path(aside) / "made"
        train(embedder, pairs, arguments.epochs, made, arguments.seed)
        (made / FACTS).write_text(json.dumps(facts, indent=1) + "\n")
        _put(made, arguments.out)
    print(f"{arguments.out / WEIGHTS}: learned from {len(learned)} of {len(sources)} sources.")


def _put(made: Path, out: Path) -> None:
    """Moves the files into a folder, beside what else lies there; new weights never stand by an old list of sources."""
    out.mkdir(exist_ok=True)
    (out / FACTS).unlink(missing_ok=True)
    for file in sorted(made.iterdir(), key=lambda file: file.name == FACTS):  # the list comes last
        file.replace(out / file.name)


def _learned(pairs: Sequence[LabelledPair], sources: Sequence[str]) -> Iterator[str]:
    """All writers but every fifth, and no benchmark."""
    writers = {pair.writer for pair in pairs} - {""}
    for place, source in enumerate(each for each in sources if each in writers):
        if place % LEFT_TO_THE_FIT != LEFT_TO_THE_FIT // 2:
            yield source


def train(
    embedder: SentenceEmbedder, pairs: Sequence[LabelledPair], epochs: int, out: Path, seed: int = 0
) -> None:
    """Writes the weights learned from the pairs, in half precision."""
    try:
        import torch
        from peft import LoraConfig, get_peft_model
        from peft.helpers import disable_input_dtype_casting
    except ImportError as error:
        raise missing_package("peft", "draw") from error
    from data.progress import StageProgress

    chance = random.Random(seed)  # noqa: S311  # draws views, keeps no secret
    torch.manual_seed(seed)
    base, tokenizer = load_classifier(embedder.path)
    base.set_attn_implementation("eager")  # on a CPU the fused one takes twice as long to go backwards
    for part in base.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0  # a quarter of the time, and two epochs do not overfit a change of so low a rank
    base.to(torch.bfloat16)
    change = LoraConfig(
        r=RANK,
        lora_alpha=RANK,
        task_type="SEQ_CLS",
        target_modules=["query", "key", "value", "dense"],
        modules_to_save=["classifier"],
    )
    model = get_peft_model(base, change).train()
    optimizer = torch.optim.AdamW(
        [each for each in model.parameters() if each.requires_grad], lr=LEARNING_RATE, weight_decay=0.01
    )
    steps = [step for _ in range(epochs) for step in _steps(_epoch(pairs, chance), chance)]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, max(1 - step / len(steps), 0.0))
    )
    with disable_input_dtype_casting(model), StageProgress("learn", len(steps), 0) as progress:
        for step in steps:
            loss = _loss(model, tokenizer, step)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            progress.advance()
    model.peft_config["default"].base_model_name_or_path = embedder.name  # not a path of this machine
    model.half().save_pretrained(str(out), save_embedding_layers=False)
    (out / "README.md").unlink(missing_ok=True)  # PEFT's, with nothing filled in


def _epoch(pairs: Sequence[LabelledPair], chance: random.Random) -> list[Reading]:
    """Every query once beside a view of its own picture, and leaking ones beside others'; in any order."""
    views: dict[tuple[str, str], list[LabelledPair]] = {}
    for pair in pairs:
        views.setdefault((pair.query, pair.picture), []).append(pair)
    found = []
    for shown in (each for each in views.values() for _ in range(_readings(each[0]))):
        pair = chance.choice(shown)
        found.append(Reading(_as_read(pair.query, pair.image_description, chance), float(pair.leak), 1.0))
        for other in chance.choices(pairs, k=OTHERS) if pair.leak else ():
            if other.topic != pair.topic:
                found.append(
                    Reading(_as_read(pair.query, other.image_description, chance), 0.0, OTHERS_WEIGHT)
                )
    chance.shuffle(found)
    return found


def _readings(pair: LabelledPair) -> int:
    return BENCHMARK_READINGS if pair.fold else 1


def _as_read(query: str, description: str, chance: random.Random) -> Pair:
    shown = caption_of(description) if chance.random() < CAPTIONED else description
    return both_texts(query, shown)


def _steps(readings: Sequence[Reading], chance: random.Random) -> list[list[Reading]]:
    """Batches of readings of like length, in any order within some forty of them."""
    found = []
    for start in range(0, len(readings), SORTED):
        some = sorted(readings[start : start + SORTED], key=lambda each: len(" ".join(each.pair)))
        batches = [some[place : place + BATCH] for place in range(0, len(some), BATCH)]
        chance.shuffle(batches)
        found += batches
    return found


def _loss(model: nn.Module, tokenizer: object, step: Sequence[Reading]) -> Tensor:
    """Weighted log loss of a batch, with labels that leave a little doubt."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    device = next(model.parameters()).device
    inputs = tokenized(tokenizer, [each.pair for each in step]).to(device)
    with torch.autocast(device.type, torch.bfloat16):
        odds = model(**inputs).logits[:, 0]
    target = torch.tensor([each.leak for each in step], device=device) * (1 - 2 * SLACK) + SLACK
    weight = torch.tensor([each.weight for each in step], device=device)
    each = binary_cross_entropy_with_logits(odds.float(), target, reduction="none")
    return (each * weight).mean()


if __name__ == "__main__":
    run_cli(main, when_stopped="Nothing was written; training starts anew.")
