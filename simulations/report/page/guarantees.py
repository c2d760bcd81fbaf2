"""What the run promises: differential privacy and secure aggregation."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from common.page.drawing import svg_of
from common.page.markup import facts_of, section
from common.privacy.statements import odds
from common.tasks import TASKS
from simulations.report.page.plots import draw_epsilons
from simulations.report.page.words import delta, finite, is_number, or_none, plural, upload


def privacy(report: dict[str, Any]) -> str:
    """What the run promises at each level, and the ε that each person spent."""
    record, user = report["privacy"]["record"], report["privacy"].get("user")
    example = "one example"
    task = TASKS.get(report["task"])
    if task and task.hidden:
        example += f" ({task.hidden})"
    cards = _guarantee(
        "Record level", record,
        f"This level is about {example} on its device, and holds against everybody: the server, "
        "other devices, whoever gets the adapter. Copies on other people's devices are theirs.",
    ) + _guarantee(
        "User level", user,
        "This level is about everything that one person contributed, all examples together, and "
        "what the server can tell of it from the sum it sees.",
    )  # fmt: skip
    return section(
        "Privacy",
        "<p>Differential privacy bounds how far one contribution can show in what leaves the "
        "device: ε bounds it, δ is the small chance that the bound does not hold. Smaller is "
        f'safer.</p><div class="cards two">{cards}</div>{_epsilons(report)}',
    )


def _guarantee(title: str, spent: dict[str, Any] | None, meaning: str) -> str:
    if not spent:
        return (
            f'<div class="card"><h3>{title}</h3><b>not used in this run</b>'
            f"<p>{meaning} This run makes no such promise.</p></div>"
        )
    facts = [f"noise multiplier σ = {or_none(spent.get('noise_multiplier'))} (× clipping bound)"]
    if spent.get("max_grad_norm") is not None:
        facts.append(f"clipping bound C = {spent['max_grad_norm']:g} (L2 norm of a gradient)")
    if spent.get("clip_norm") is not None:
        facts.append(f"clipping bound C = {spent['clip_norm']:g} (L2 norm of a whole update)")
    return (
        f'<div class="card"><h3>{title}</h3><b>ε = {spent["epsilon"]:.2f}</b>'
        f"<span>at δ = {delta(spent)}, the whole run</span><p>{meaning}</p>"
        f"<p>Seeing the result changes the odds of guessing whether it took part by at most a "
        f"factor of {odds(spent['epsilon'])} (e<sup>ε</sup>).</p>"
        f"<span>{'; '.join(facts)}</span></div>"
    )


def _epsilons(report: dict[str, Any]) -> str:
    spent = sorted(
        person["epsilon"]
        for person in report["per_user"]
        if not math.isnan(finite(person["epsilon"]))
    )
    if not spent:
        return ""
    budget = report["settings"].get("epsilon")
    words = f"ε per person: {spent[0]:.2f} to {spent[-1]:.2f}, median {median(spent):.2f}"
    if is_number(budget):
        words += f"; budget {budget:g} (dashed)"
    svg = svg_of(1.5, lambda figure: draw_epsilons(figure.subplots(), spent, budget))
    return (
        f"<h3>What each person spent</h3><figure>{svg}<figcaption>{words}. People in order of "
        "ε, which has no unit.</figcaption></figure>"
    )


def sums(report: dict[str, Any]) -> str:
    """What the server saw, and with which parameters."""
    facts = report["secure_aggregation"]
    if not facts["enabled"]:
        return section("Secure aggregation", "<p>Off: the server saw every device's update.</p>")
    rows = (
        ("Holders", f"{facts['neighbours']:,} devices hold the shares of each device's keys"),
        ("Threshold", f"{facts['threshold']:,} of them must answer to rebuild one"),
        *_tolerated(facts),
        ("Modulus", f"{facts['modulus_bits']} bits for each masked number"),
        ("Clipped", f"{100 * facts.get('clipped_share', 0.0):.2g} % of all numbers sent"),
        ("Dropped", f"{plural(facts['dropped'], 'client', 'clients')} left during finished rounds"),
        ("Upload", f"{upload(report)} ({facts['upload_bytes_per_client_round']:,} bytes) of each "
         "client in a round, all messages"),
    )  # fmt: skip
    return section(
        "Secure aggregation",
        "<p>The server sees the sum of the masked updates, never one device's own.</p>"
        + facts_of(rows),
    )


def _tolerated(facts: dict[str, Any]) -> list[tuple[str, str]]:
    if "least_survivors" not in facts:
        return []
    cohort, least = facts["cohort"], facts["least_survivors"]
    exposed, failed = (
        _chance(facts[f"{name}_log2"]) for name in ("privacy_failure", "abort_chance")
    )
    return [
        ("Losses", f"{cohort - least:,} of {cohort:,} may drop out; more abandon the round; with "
         f"so many, chance drop-outs abandon it anyway: {failed}"),
        ("Collusion", f"{facts['tolerated_corrupt']:,} of {cohort:,} may work with the server; "
         f"that they expose anybody: {exposed}, unless the server invents devices; sums of "
         "repeated attempts can be subtracted"),
    ]  # fmt: skip


def _chance(log2: float | None) -> str:
    return "impossible" if log2 is None else f"chance at most 2<sup>{log2:.0f}</sup>"
