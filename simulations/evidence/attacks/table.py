"""The attack table: attack, outcome in Flower 1.41's SecAgg+, outcome in Privity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.text import Text

from common.console.tables import console, show_table
from simulations.evidence.attacks import on_flower as flower
from simulations.evidence.attacks import on_privity as privity
from simulations.evidence.attacks.measure import AttackOutcome

_BONAWITZ = "Bonawitz et al. 2017, eprint 2017/281, figure 4"
_BELL = "Bell et al. 2020, eprint 2020/704"
_MOD, _UTILS = "Flower's secaggplus_mod.py", "Flower's secaggplus_utils.py"


@dataclass(frozen=True, slots=True)
class AttackRow:
    """One attack on both systems.

    Attributes:
        attack: Its name.
        how: What the server does.
        flower: What came of it in Flower.
        privity: What came of it in Privity.
        source: Where the weakness is described, or stands in Flower's code.
    """

    attack: str
    how: str
    flower: AttackOutcome
    privity: AttackOutcome
    source: str


@dataclass(frozen=True, slots=True)
class _Attack:
    name: str
    how: str
    flower: Callable[[], AttackOutcome]
    privity: Callable[[], AttackOutcome]
    source: str


def run_attacks() -> list[AttackRow]:
    """Perform every attack on both systems; takes some seconds."""
    return [
        AttackRow(attack.name, attack.how, attack.flower(), attack.privity(), attack.source)
        for attack in _attacks()
    ]


def as_json(rows: Sequence[AttackRow]) -> dict[str, Any]:
    """`{"name", "versions", "rows"}`; a row is an `AttackRow`."""
    versions = {name: version(name) for name in ("privity", "flwr")}
    return {"name": "attacks", "versions": versions, "rows": [asdict(row) for row in rows]}


def show(rows: Sequence[AttackRow], out: Console | None = None) -> None:
    """The table, and in how many rows the attacker got what it wanted."""
    out = out or console()
    cells = [
        (
            Text.assemble((row.attack, "bold"), f"\n{row.how}\n", (row.source, "dim")),
            _cell(row.flower),
            _cell(row.privity),
        )
        for row in rows
    ]
    headings = ("attack", f"Flower {version('flwr')} SecAgg+", "Privity")
    title = "A lying server, and accidents, against secure aggregation (synthetic updates)"
    show_table(out, headings, cells, title=title, prose=headings, lines=True)
    out.print(
        f"Of {len(rows)} attacks {sum(row.flower.succeeded for row in rows)} succeed against "
        f"Flower and {sum(row.privity.succeeded for row in rows)} against Privity. A guess of "
        "zeros has relative error 1."
    )


def _cell(outcome: AttackOutcome) -> Text:
    verdict = ("succeeds", "red") if outcome.succeeded else ("fails", "green")
    return Text.assemble(verdict, f": {outcome.text}")


def _attacks() -> tuple[_Attack, ...]:
    return _on_shares() + _on_keys() + _on_members() + _on_messages()


def _on_shares() -> tuple[_Attack, ...]:
    return (
        _Attack(
            "both shares",
            "The server names one member alive and dead, and rebuilds its seed and its key.",
            flower.shares.alive_and_dead,
            privity.shares.alive_and_dead,
            f"{_BONAWITZ}; _unmask in {_MOD}",
        ),
        _Attack(
            "two lists of survivors",
            "Half of the members hear that one is alive, the other half that it is dead.",
            flower.shares.two_lists,
            privity.shares.two_lists,
            f"{_BONAWITZ}, consistency check",
        ),
        _Attack(
            "short mask seeds",
            "One unknown pair mask is left; of its seed all but 16 bits are known.",
            flower.seeds.short_seeds,
            privity.seeds.short_seeds,
            f"Flower issue 7522; pseudo_rand_gen in {_UTILS}",
        ),
    )


def _on_keys() -> tuple[_Attack, ...]:
    return (
        _Attack(
            "swapped public keys",
            "The server answers one member in the name of all its peers.",
            flower.keys.swapped_keys,
            privity.keys.swapped_keys,
            f"{_BONAWITZ}, signed keys; _share_keys in {_MOD}",
        ),
        _Attack(
            "replayed keys and messages",
            "Keys and messages of an earlier round stand for those of this one.",
            flower.keys.replayed_keys,
            privity.keys.replayed_keys,
            f"_share_keys in {_MOD}",
        ),
        _Attack(
            "different models",
            "Everybody but one is given a network whose gradient is zero, and the sum is taken.",
            flower.models.different_models,
            privity.models.different_models,
            "Pasquini et al. 2022, arXiv 2111.07380",
        ),
    )


def _on_members() -> tuple[_Attack, ...]:
    return (
        _Attack(
            "small cohorts, low thresholds",
            "The server plans a round of one or two, a threshold of one, or leaves members out.",
            flower.cohorts.cohort_of_one,
            privity.cohorts.small_cohorts,
            f"_setup in {_MOD}",
        ),
        _Attack(
            "chosen neighbours",
            "Four colluders of twenty members are to be all neighbours of one member.",
            flower.cohorts.chosen_neighbours,
            privity.cohorts.chosen_neighbours,
            f"{_BELL}, section 4",
        ),
        _Attack(
            "drop-out before sharing",
            "A member sends its keys and is never heard of again.",
            flower.faults.dropped_before_sharing,
            privity.faults.dropped_before_sharing,
            f"_unmask in {_MOD}",
        ),
    )


def _on_messages() -> tuple[_Attack, ...]:
    return (
        _Attack(
            "figures in clear",
            "The server reads example counts and metrics beside the masked vectors.",
            flower.leaks.figures_in_clear,
            privity.leaks.figures_in_clear,
            f"secaggplus_mod in {_MOD}",
        ),
        _Attack(
            "silent clipping",
            "Values lie beyond the clipping range, and nobody is told.",
            flower.leaks.silent_clipping,
            privity.leaks.silent_clipping,
            "quantize in Flower's quantization.py",
        ),
        _Attack(
            "malformed messages",
            "A member is sent messages that are cut, altered, or say a thing twice.",
            flower.faults.malformed_messages,
            privity.faults.malformed_messages,
            f"check_configs and _collect_masked_vectors in {_MOD}",
        ),
    )
