"""How many devices one server bears: a sweep of sizes against a whole deployment.

`privity-server up` with everything it starts; devices that speak the real protocol over TLS, many
to a process (`load_devices`). All of them come from one address and share the machine with the
server, so the gateway's bounds for one address are raised here, and what the devices took of the
processors is shown. A size has a bounded time; the sweep ends at the first that does not finish.
"""

from __future__ import annotations

from collections.abc import Iterator

from common.console.say import say_aside
from simulations.evidence.benchmarks.load_run import Outcome, Window, run
from simulations.evidence.benchmarks.timing import Figures, Row

SIZES, QUICK_SIZES = (50, 100, 200, 400, 800), (10,)
PARTS = ("superlink", "gateway", "superexec", "serverapp", "dashboard", "up")


def rows(quick: bool) -> Iterator[Row]:
    """One case a size, up to the first at which not all rounds are made."""
    for devices in QUICK_SIZES if quick else SIZES:
        say_aside(f"{devices} devices")
        outcome = run(devices, idle_s=5.0 if quick else 20.0)
        yield row(outcome)
        for words in filter(None, [*outcome.failures[:3], outcome.trouble]):
            say_aside(f"  {words}")
        if outcome.trouble:
            break


def row(outcome: Outcome) -> Row:
    """The figures of one size."""
    made = len(outcome.rounds)
    how = f"{made} of {outcome.wanted} rounds"
    return Row(
        case=f"{outcome.devices} devices, {how}" + f": {outcome.trouble}" * bool(outcome.trouble),
        data="tiny model, 4 made-up examples a device, DP-SGD, every leg; devices in "
        f"{outcome.processes} processes on the server's own machine, signatures of a roster "
        "checked once a process; the gateway's limits for one address raised",
        ours=_joining(outcome)
        | _idle(outcome)
        | _rounds(outcome)
        | _cores(outcome.whole)
        | _memory(outcome),
        peers={},
        limit={},
        ratios={"survivors_vs_devices": outcome.least_survivors / outcome.devices},
    )


def _joining(outcome: Outcome) -> Figures:
    figures: Figures = {
        "devices_count": outcome.devices,
        "lost_links_count": outcome.lost_links,
        "failed_devices_count": len(outcome.failures),
    }
    if outcome.enrolling_s:
        figures["enrolments_per_s"] = outcome.devices / outcome.enrolling_s
    if outcome.connecting_s:
        figures["connecting_s"] = outcome.connecting_s
    return figures


def _idle(outcome: Outcome) -> Figures:
    if outcome.idle is None:
        return {}
    idle = outcome.idle
    shares = {f"idle_{name}_cores": idle.cpu_s.get(name, 0.0) / idle.seconds for name in PARTS[:2]}
    shares["idle_devices_cores"] = idle.cpu_s["devices"] / idle.seconds
    return {**shares, "idle_requests_per_s": idle.requests / idle.seconds}


def _rounds(outcome: Outcome) -> Figures:
    """The first round, which starts cold, and the mean of the pipelined rounds after it."""
    figures: Figures = {"rounds_done_count": len(outcome.rounds)}
    if outcome.cold:
        figures["cold_round_s"] = outcome.rounds[0]
    if outcome.pipelined is None:
        return figures
    window, made = outcome.pipelined, len(outcome.rounds) - 1
    figures["pipelined_round_s"] = window.seconds / made
    figures["rounds_per_h"] = 3600 * made / window.seconds
    for name in (*PARTS, "devices"):
        figures[f"round_{name}_cpu_s"] = window.cpu_s.get(name, 0.0) / made
    figures["round_requests_count"] = window.requests / made
    figures["round_polls_count"] = window.polls / made
    figures["round_in_mb"] = window.bytes_in / made / 1e6
    figures["round_out_mb"] = window.bytes_out / made / 1e6
    return figures


def _cores(window: Window | None) -> Figures:
    """How busy everything was while rounds were made, the machine's other work included."""
    if window is None:
        return {}
    cores = {name: spent / window.seconds for name, spent in window.cpu_s.items()}
    others = cores.pop("machine") - sum(cores.values())
    return {f"{name}_cores": share for name, share in cores.items()} | {
        "others_cores": max(0.0, others)
    }


def _memory(outcome: Outcome) -> Figures:
    return {
        f"{name}_peak_rss_mb": outcome.peak_mb[name] for name in PARTS if name in outcome.peak_mb
    }
