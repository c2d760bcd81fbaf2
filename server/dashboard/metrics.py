"""The situation as Prometheus reads it. Nothing is counted here, so a restart loses nothing.

Only what is listed below is told: prometheus_client's own collectors, which look at the process and
the machine, are not registered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from common.rounds.outcomes import ABANDONED, DONE, HELD
from server.dashboard.quality import DRAWN
from server.dashboard.situation import Situation
from server.registry.evaluations import latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics(situation: Situation) -> bytes:
    """All metrics, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(situation))
    return generate_latest(registry)


class _Once:
    def __init__(self, situation: Situation) -> None:
        self._situation = situation

    def collect(self) -> Iterator[Metric]:
        for group in (_rounds, _quality, _privacy, _devices, _gateway, _parts):
            yield from group(self._situation)


def _rounds(situation: Situation) -> Iterator[Metric]:
    rounds, done = situation.rounds, situation.done
    outcomes = CounterMetricFamily("privity_rounds", "Rounds by outcome.", labels=["outcome"])
    outcomes.add_metric([DONE], len(done))
    held = sum(entry.status == HELD for entry in rounds)
    outcomes.add_metric([ABANDONED], len(rounds) - len(done) - held)
    outcomes.add_metric([HELD], held)
    yield outcomes
    survivors = sum(entry.survivors for entry in rounds)
    yield CounterMetricFamily(
        "privity_survivors", "Devices whose update is in a sum, over all rounds.", survivors
    )
    yield CounterMetricFamily(
        "privity_dropouts", "Devices that were asked and are in no sum, over all rounds.",
        sum(entry.cohort for entry in rounds) - survivors,
    )  # fmt: skip
    yield _gauge("privity_rounds_planned", "Rounds in all, by the settings.", situation.planned)
    under_way = int(situation.under_way)
    yield _gauge("privity_round_under_way", "1 while a round is being made.", under_way)
    yield _gauge("privity_version", "The version that the next round starts from; its round.",
                 situation.current)  # fmt: skip
    if rounds:
        last = rounds[-1]
        for name, words, value in (
            ("seconds", "Duration of the last round, in seconds.", last.seconds),
            ("cohort", "Devices asked in the last round.", last.cohort),
            ("survivors", "Devices in the last round's sum.", last.survivors),
        ):
            yield _gauge(f"privity_last_round_{name}", words, value)


def _quality(situation: Situation) -> Iterator[Metric]:
    yield _gauge("privity_on_hold", "1 while no rounds are made because a version got worse.",
                 int(situation.hold is not None))  # fmt: skip
    found = list(latest(situation.evaluations).values())[-DRAWN:]
    if not found:
        return
    gain = GaugeMetricFamily(
        "privity_version_gain", f"Noisy gain over the base model, in {found[-1].unit}.",
        labels=["version"],
    )  # fmt: skip
    spread = GaugeMetricFamily(
        "privity_version_gain_std", "Standard deviation of that gain, at most.", labels=["version"]
    )
    for one in found:
        gain.add_metric([str(one.version)], one.gain)
        spread.add_metric([str(one.version)], one.std)
    yield from (gain, spread)


def _privacy(situation: Situation) -> Iterator[Metric]:
    if not situation.spent:
        return
    spent = GaugeMetricFamily(
        "privity_epsilon",
        "Privacy spent on this federation's releases, at most.",
        labels=["guarantee"],
    )
    for name, one in (("record", situation.spent.record), ("user", situation.spent.user)):
        if one:
            spent.add_metric([name], one.epsilon)
    yield spent


def _devices(situation: Situation) -> Iterator[Metric]:
    devices = situation.devices
    counts = {"enrolled": devices.enrolled, "revoked": devices.revoked, "left": devices.left}
    if devices.online is not None:
        counts["online"] = devices.online
    yield _by("privity_devices", "Devices; those online are enrolled, too.", "state", counts)


def _gateway(situation: Situation) -> Iterator[Metric]:
    if not situation.gateway:
        return
    connections = situation.gateway.connections
    yield _gauge("privity_gateway_connections", "Open connections.", connections)
    yield _by("privity_gateway_refusals", "Refusals since the gateway was started.", "reason",
              situation.gateway.refusals, CounterMetricFamily)  # fmt: skip


def _parts(situation: Situation) -> Iterator[Metric]:
    running = {name: int(part.running) for name, part in situation.parts.items()}
    restarts = {name: part.restarts for name, part in situation.parts.items()}
    yield _by("privity_part_running", "1 while the process runs.", "part", running)
    yield _by("privity_part_restarts", "How often a process had to be started again.", "part",
              restarts, CounterMetricFamily)  # fmt: skip


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value)


def _by(
    name: str,
    words: str,
    label: str,
    values: Mapping[str, int],
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily] = GaugeMetricFamily,
) -> Metric:
    family = kind(name, words, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
