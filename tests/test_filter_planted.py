"""Every planted fault is caught by the gate that should catch it, and no clean pair with them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from data.embedders import Embedder
from data.gate_tally import tally_gates
from data.records import Pair
from data.taxonomy import load_taxonomy
from filter.apply import Tools, filter_pairs
from filter.settings import BalanceSettings, FilterSettings
from tests.planted import Planted, plant

NEAR = ("near_duplicate_text", "near_duplicate_image")


def test_every_planted_fault_is_caught_by_name_and_no_clean_pair_with_them(
    tmp_path: Path, minilm: Embedder
) -> None:
    """One test: planting takes the time, and each worker of the test run would do it anew."""
    planted = plant(tmp_path, minilm)
    filtered = filter_pairs(
        planted.pairs, FilterSettings(read_pictures="off"), BalanceSettings(size=100_000), load_taxonomy(),
        Tools(tmp_path, minilm),
    )  # fmt: skip
    through = {pair.id: pair for pair in filtered}
    _each_fault_by_its_own_gate(planted, through)
    _of_two_alike_one_stays(planted, through)
    touched = planted.faults.keys() | planted.twins.values()
    clean = [pair for pair in filtered if pair.id not in touched]
    assert len(clean) > 160
    assert [(pair.id, pair.rejected) for pair in clean if pair.rejected] == []


def _each_fault_by_its_own_gate(planted: Planted, through: dict[str, Pair]) -> None:
    alone = {name: gate for name, gate in planted.faults.items() if gate not in NEAR}
    caught = {name: pair.rejected.reason if (pair := through[name]).rejected else None for name in alone}
    assert {name: (gate, caught[name]) for name, gate in alone.items() if caught[name] != gate} == {}
    funnel = {tally.gate: tally.rejected for tally in tally_gates(through.values())}
    assert {gate: funnel[gate] for gate in set(planted.faults.values())} == Counter(planted.faults.values())


def _of_two_alike_one_stays(planted: Planted, through: dict[str, Pair]) -> None:
    assert len(planted.twins) == 30
    for names in planted.twins.items():
        worse, better = sorted(names, key=lambda name: through[name].rejected is None)
        rejected = through[worse].rejected
        assert rejected is not None and through[better].rejected is None
        assert (rejected.reason, rejected.twin) == (planted.faults[names[0]], better)
