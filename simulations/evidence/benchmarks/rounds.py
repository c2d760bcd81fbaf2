"""How long a federation of real processes takes for a round with next to no training.

Ours: `privity-server up` and one `privity-client` a device, TLS, gateway, secure aggregation,
differential privacy. The peer: a stock Flower SuperLink and SuperNodes, as Flower's documentation
starts them, without TLS or authentication, whose round is one exchange of an empty message. Both on
this machine, one after the other in the same run.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from common.console.say import say_aside
from simulations.evidence.benchmarks import rounds_flower, rounds_ours
from simulations.evidence.benchmarks.timing import Row

DEVICES, ROUNDS = 5, 6
QUICK_DEVICES, QUICK_ROUNDS = 3, 2


def rows(quick: bool) -> Iterator[Row]:
    """One case: cold and pipelined rounds against stock ones."""
    devices, rounds = (QUICK_DEVICES, QUICK_ROUNDS) if quick else (DEVICES, ROUNDS)
    say_aside("a stock Flower federation")
    stock = rounds_flower.round_seconds(devices, rounds)
    say_aside("ours")
    ours = rounds_ours.round_seconds(devices, rounds)
    yield _row(devices, ours, stock)


def _row(devices: int, ours: list[float], stock: list[float]) -> Row:
    """The first round of a process also loads libraries and the model: it is given apart."""
    pipelined, usual = median(ours[1:]), median(stock[1:])
    return Row(
        case=f"{devices} devices, {len(ours)} rounds, trivial training",
        data="synthetic messages, the tiny model; medians of the rounds after the first; ours has "
        "three exchanges, TLS and authentication, stock one exchange and neither",
        ours={
            "round_s": pipelined,
            "slowest_s": max(ours[1:]),
            "first_cold_round_s": ours[0],
        },
        peers={
            "flower": {
                "round_s": usual,
                "slowest_s": max(stock[1:]),
                "first_cold_round_s": stock[0],
            }
        },
        limit={},
        ratios={
            "round_time_vs_flower": pipelined / usual,
            "first_round_time_vs_flower": ours[0] / stock[0],
        },
    )
