"""What a federation's rounds would ask of this device, laid beside what its person allows.

Known before any round: from the settings that `join` is shown and that come with every message, and
from the ledger. So a device that would decline everything says so at once, and `status` says why.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.federation.policy import (
    ALWAYS,
    NONE,
    Asked,
    Policy,
    SoFar,
    about_model,
    beyond,
    number,
    reasons_to_decline,
    shown,
)
from client.federation.surroundings import Surroundings

if TYPE_CHECKING:
    from client.vault.ledger import Ledger
    from client.vault.store import Store
    from common.settings import Settings

SETTINGS, ASKED = OF_OFFER = "federation/settings", "federation/asked"  # in a store
EVERY, LATER = "every round", "later rounds"


@dataclass(frozen=True, slots=True)
class Prospect:
    """One thing that rounds ask, and what the policy says to it.

    Attributes:
        declined: "" where it is allowed, else which rounds are declined.
        changes: What to give `policy --set` to allow it.
    """

    what: str
    asked: str
    allowed: str
    declined: str = ""
    changes: tuple[str, ...] = ()


def so_far(ledger: Ledger) -> SoFar:
    """What the ledger comes to; infinite where that was not noted."""
    spent = [ledger.spent(guarantee) for guarantee in ("record", "user")]
    return SoFar(*(math.inf if one is None else one.epsilon for one in spent))


def expected(settings: Settings, ledger: Ledger) -> Asked:
    """What the first round would ask, as far as it can be known: the update's size is not.

    Raises:
        BudgetExceededError: More than is left of the federation's own budget.
        PrivityError: No round can be made under these settings.
    """
    from client.federation.budget import next_evaluation, next_release
    from common.privacy import releases
    from common.privacy.accountant import epsilon
    from common.privacy.planning import planned_rounds
    from common.privacy.user_level import calibrate_user, user_epsilon
    from common.rounds.round_terms import graph_for

    record = person = math.inf
    if settings.record.dp:
        past, scored = ledger.releases(), ledger.evaluations()
        sigma = next_release(past, settings, 1, scored).noise_multiplier
        figure = next_evaluation(scored, settings, 1)
        first = [
            *releases.updates(settings.record, settings.training, sigma, 1),
            *([figure] if figure else []),
        ]
        record = epsilon([*past, *first], settings.record.delta, settings.record.accountant)
    if settings.user.epsilon:
        rhos, planned = ledger.user_rhos(), planned_rounds(settings.rounds, 1)
        rho = calibrate_user(rhos, planned, settings.user.epsilon, settings.user.delta)
        person = user_epsilon([*rhos, rho], settings.user.delta)
    return Asked(
        cohort=graph_for(settings.sum, settings.rounds.cohort or settings.rounds.users).least,
        record_epsilon=record,
        user_epsilon=person,
        upload_bytes=0,
        model=settings.model.name,
        record_delta=settings.record.delta,
        user_delta=settings.user.delta,
    )


def rows(policy: Policy, settings: Settings, asked: Asked, spent: SoFar) -> list[Prospect]:
    """Everything that rounds ask against the policy."""
    before = spent.record_epsilon if asked.record_epsilon < math.inf else 0.0
    adds, model = (
        asked.record_epsilon - before,
        "".join(filter(str.isprintable, settings.model.name)),
    )
    limits = (
        (policy.record_epsilon, settings.record.delta), (policy.user_epsilon, settings.user.delta)
    )  # fmt: skip
    counted = any(most < math.inf and delta > policy.delta for most, delta in limits)
    delta = max(settings.record.delta, settings.user.delta)
    return [
        _row(policy, "model", model[:40], "models", bool(about_model(policy, settings.model.name)),
             _models(policy, settings.model.name)),
        _row(policy, "devices in a sum", f"{asked.cohort} or more", "least_cohort",
             asked.cohort < policy.least_cohort, asked.cohort),
        _row(policy, "ε of an example, first round", number(adds), "record_epsilon_round",
             beyond(adds, policy.record_epsilon_round), _most(adds)),
        _total(policy, "ε of an example, in all", "record_epsilon", asked.record_epsilon,
               settings.record.epsilon if settings.record.dp else math.inf),
        _total(policy, "ε of you as a whole, in all", "user_epsilon", asked.user_epsilon,
               settings.user.epsilon or math.inf),
        _row(policy, "δ of these ε", f"{delta:g}", "delta", counted, delta),
        Prospect("update", "told in each round", f"{policy.upload_bytes:,} bytes"),
        Prospect("when", "any time", when(policy)),
    ]  # fmt: skip


def _row(
    policy: Policy, what: str, asks: str, name: str, declined: bool, change: object = ""
) -> Prospect:
    changes = (f"{name}={change}",) if declined and change else ()
    allowed = shown(policy, name)
    allowed = "no limit" if allowed == NONE else allowed
    return Prospect(what, asks, allowed, EVERY if declined else "", changes)


def _total(policy: Policy, what: str, name: str, first: float, in_all: float) -> Prospect:
    """A total over all rounds: the first may be within the limit where a later one is not."""
    limit, most = getattr(policy, name), max(first, in_all)
    asks = "no bound" if math.isinf(in_all) else number(in_all)
    row = _row(policy, what, asks, name, beyond(most, limit), _most(most))
    late = bool(row.declined) and not beyond(first, limit)
    return dataclasses.replace(row, declined=LATER) if late else row


def _most(epsilon: float) -> str:
    """A limit that allows this ε, rounded up to two decimals."""
    return NONE if math.isinf(epsilon) else f"{math.ceil(epsilon * 100) / 100:g}"


def _models(policy: Policy, model: str) -> str:
    """The models with one more; empty for a name that no list of names can hold."""
    plain = model.isprintable() and "," not in model and model.strip() == model
    return ",".join([*policy.models, model]) if plain else ""


def standing(store: Store, policy: Policy) -> list[str]:
    """Why every round of the federation would be declined, now and later, a sentence each.

    By the policy of now, and by what was asked last, or what was expected where nothing was.
    """
    settings, asked = store.get(SETTINGS), store.get(ASKED)
    model = json.loads(settings)["model"] if settings else None
    if asked is None:
        return about_model(policy, model) if model else []
    found = json.loads(asked)
    spent = SoFar(**found.pop("so_far"))
    known = Asked(**found | ({"model": model} if model else {}))
    lasting = dataclasses.replace(policy, hours=ALWAYS)
    return reasons_to_decline(lasting, known, Surroundings(0), spent)


def note_settings(store: Store, settings: Settings) -> None:
    """Keep under which settings the federation makes rounds now."""
    content = json.dumps(settings.to_dict()).encode()
    if store.get(SETTINGS) != content:
        store.put(SETTINGS, content)


def note_asked(store: Store, asked: Asked, spent: SoFar) -> None:
    """Keep what a round asks, and what was spent before it."""
    content = dataclasses.asdict(asked) | {"so_far": dataclasses.asdict(spent)}
    store.put(ASKED, json.dumps(content).encode())


def when(policy: Policy) -> str:
    """When the device takes part, in words."""
    words = [f"at {policy.hours}" if policy.hours != ALWAYS else "any time"]
    words += ["while idle"] * policy.only_idle + ["on mains power"] * policy.only_charging
    return ", ".join([*words, *["not on a metered network"] * policy.only_unmetered])


def command(changes: Sequence[str]) -> str:
    """The command that makes these changes to the policy."""
    return f"privity-client policy --set {' '.join(shlex.quote(change) for change in changes)}"
