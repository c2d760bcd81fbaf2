"""What a person lets their device take part in, and why it declines what they do not.

`reasons_to_decline` is a pure function of the policy, of what a round asks and of the machine's
state. What the platform does not tell counts as allowed; `unknowns` says so.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from client.federation.surroundings import Surroundings
from common.errors import InputError

ALWAYS, NONE = "always", "none"
HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
LEAST_COHORT = 3  # below it no secure sum hides anybody; common.settings.MIN_COHORT, held by a test
KEY = "policy"  # under which a store keeps it
ROUNDING = 1e-9  # relative; sums of the same numbers in another order


def _setting(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class Policy:
    """The device's own rules. ε may be infinite, written `none`: no limit."""

    hours: str = _setting(ALWAYS, "local hours to take part in, such as 22:00-07:00, or always")
    only_idle: bool = _setting(False, "take part only while the machine has little to do")
    only_charging: bool = _setting(True, "take part only on mains power")
    only_unmetered: bool = _setting(True, "take part only where the network is not metered")
    least_cohort: int = _setting(6, "fewest devices whose updates are summed")
    record_epsilon_round: float = _setting(8.0, "most ε of one example that one round may add")
    record_epsilon: float = _setting(8.0, "most ε of one example, over all rounds ever")
    user_epsilon: float = _setting(
        math.inf, "most ε of all that you contribute, over all rounds ever; none: not asked for"
    )
    delta: float = _setting(1e-5, "most δ at which these ε may be counted")
    upload_bytes: int = _setting(64 * 2**20, "largest update that may leave the device, in bytes")
    models: tuple[str, ...] = _setting(("smollm2-135m",), "models to train, comma-separated")

    def __post_init__(self) -> None:
        if self.hours != ALWAYS and not HOURS.fullmatch(self.hours):
            problem = f"hours must be {ALWAYS} or like 22:00-07:00, not {self.hours!r}."
            raise InputError(problem)
        if self.least_cohort < LEAST_COHORT:
            problem = f"least_cohort must be at least {LEAST_COHORT}, not {self.least_cohort}."
            raise InputError(problem, "Fewer cannot hide anybody.")
        for name in ("record_epsilon_round", "record_epsilon", "user_epsilon"):
            if not getattr(self, name) > 0:
                problem = f"{name} must be greater than 0 or {NONE}, not {getattr(self, name)}."
                raise InputError(problem)
        if not 0 < self.delta < 1:
            raise InputError(f"delta must be between 0 and 1, not {self.delta}.")
        if self.upload_bytes < 1:
            raise InputError(f"upload_bytes must be at least 1, not {self.upload_bytes}.")
        if not self.models or not all(self.models):
            raise InputError("models must name at least one model.")

    def encode(self) -> bytes:
        """The policy as JSON."""
        return json.dumps({name: shown(self, name) for name in names()}).encode()


@dataclass(frozen=True, slots=True)
class Asked:
    """What a round asks of the device.

    Attributes:
        cohort: How many devices' updates are summed at least, itself included.
        record_epsilon: ε of one example after this round, over all rounds ever.
        user_epsilon: ε of the person's whole contribution after this round.
        upload_bytes: Size of the update's message.
        model: Name of the base model.
        record_delta: δ at which that ε of one example is counted.
        user_delta: δ at which that ε of the whole contribution is counted.
    """

    cohort: int
    record_epsilon: float
    user_epsilon: float
    upload_bytes: int
    model: str
    record_delta: float
    user_delta: float


@dataclass(frozen=True, slots=True)
class SoFar:
    """ε that the device's ledger comes to before the round."""

    record_epsilon: float = 0.0
    user_epsilon: float = 0.0


def reasons_to_decline(
    policy: Policy, asked: Asked | None, surroundings: Surroundings, spent: SoFar
) -> list[str]:
    """Every reason not to take part, a sentence each; none: take part.

    Args:
        asked: What the round asks; None for what can be said before any does.
        spent: What the ledger comes to so far.
    """
    reasons = _about_now(policy, surroundings)
    return (
        reasons + _about_spent(policy, spent)
        if asked is None
        else reasons + _about_round(policy, asked, spent)
    )


def about_model(policy: Policy, model: str) -> list[str]:
    """Why nothing may be done about this model, not even look for it; empty: it is allowed."""
    if model in policy.models:
        return []
    return [f"The model {model[:100]!r} is not one of yours: {', '.join(policy.models)}."]


def unknowns(policy: Policy, surroundings: Surroundings) -> list[str]:
    """What the policy asks for that this machine does not tell, a sentence each."""
    return [
        f"This machine does not tell whether {unmet}; it counts as if not."
        for holds, state, unmet in _conditions(policy, surroundings)
        if holds and state is None
    ]


def decode(content: bytes | None) -> Policy:
    """The policy that a store keeps; the default where it keeps none.

    Raises:
        InputError: When it is not a policy.
    """
    if content is None:
        return Policy()
    values = json.loads(content)
    return changed(Policy(), {name: _text(value) for name, value in values.items()})


def changed(policy: Policy, values: Mapping[str, str]) -> Policy:
    """The policy with some settings as a person writes them.

    Raises:
        InputError: For an unknown setting or a value that it cannot have.
    """
    fields = {field.name: field for field in dataclasses.fields(Policy)}
    read: dict[str, Any] = {}
    for given, text in values.items():
        name = given.strip().replace("-", "_")
        if name not in fields:
            raise InputError(f"The policy has no {given!r}.", f"It has: {', '.join(fields)}.")
        read[name] = _read(name, text.strip(), type(fields[name].default))
    return dataclasses.replace(policy, **read)


def names() -> list[str]:
    """The policy's settings, in order."""
    return [field.name for field in dataclasses.fields(Policy)]


def meaning(name: str) -> str:
    """What a setting is, in words."""
    (field,) = (field for field in dataclasses.fields(Policy) if field.name == name)
    return str(field.metadata["help"])


def shown(policy: Policy, name: str) -> str:
    """A setting as a person writes it; `changed` reads it back."""
    return _text(getattr(policy, name))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return NONE if math.isinf(value) else repr(value).removesuffix(".0")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(value)
    return str(value)


def _read(name: str, text: str, wanted: type) -> Any:
    if wanted is bool:
        choices = {"yes": True, "no": False, "true": True, "false": False}
        if text.lower() not in choices:
            raise InputError(f"{name} must be yes or no, not {text!r}.")
        return choices[text.lower()]
    if wanted is tuple:
        return tuple(part.strip() for part in text.split(","))
    if wanted is float and text.lower() == NONE:
        return math.inf
    try:
        value = wanted(text)
    except ValueError:
        number = "a whole number" if wanted is int else f"a number or {NONE}"
        raise InputError(f"{name} must be {number}, not {text!r}.") from None
    if wanted is float and not math.isfinite(value):
        raise InputError(f"{name} must be a number or {NONE}, not {text!r}.")
    return value


def _conditions(
    policy: Policy, surroundings: Surroundings
) -> tuple[tuple[bool, bool | None, str], ...]:
    return (
        (policy.only_idle, surroundings.idle, "it is busy"),
        (policy.only_charging, surroundings.charging, "it runs on its battery"),
        (policy.only_unmetered, surroundings.unmetered, "its network is metered"),
    )


def _about_now(policy: Policy, surroundings: Surroundings) -> list[str]:
    reasons = []
    if not _within(policy.hours, surroundings.minute):
        now = f"{surroundings.minute // 60:02d}:{surroundings.minute % 60:02d}"
        reasons.append(f"It is {now}, outside {policy.hours}.")
    for holds, state, unmet in _conditions(policy, surroundings):
        if holds and state is False:
            reasons.append(f"The machine is not free: {unmet}.")
    return reasons


def _within(hours: str, minute: int) -> bool:
    """Whether a minute of the day is in the hours, which may span midnight; the end is outside."""
    if hours == ALWAYS:
        return True
    start, end = (60 * int(part[:2]) + int(part[3:]) for part in hours.split("-"))
    if start < end:
        return start <= minute < end
    return minute >= start or minute < end


def _about_spent(policy: Policy, spent: SoFar) -> list[str]:
    limits = (
        ("an example", spent.record_epsilon, policy.record_epsilon),
        ("everything you contribute", spent.user_epsilon, policy.user_epsilon),
    )
    return [
        f"The ε of {whose} has reached {number(so_far)}; your limit is {number(most)}."
        for whose, so_far, most in limits
        if so_far >= most and not math.isinf(most)
    ]


def _about_round(policy: Policy, asked: Asked, spent: SoFar) -> list[str]:
    reasons = []
    if asked.cohort < policy.least_cohort:
        reasons.append(
            f"The sum could be of {asked.cohort} devices only, fewer than {policy.least_cohort}."
        )
    adds = asked.record_epsilon - (spent.record_epsilon if asked.record_epsilon < math.inf else 0)
    if beyond(adds, policy.record_epsilon_round):
        limit = number(policy.record_epsilon_round)
        reasons.append(f"The round would add {number(adds)} to the ε of an example, over {limit}.")
    reasons += _over(
        "an example",
        (spent.record_epsilon, asked.record_epsilon, policy.record_epsilon),
        (asked.record_delta, policy.delta),
    )
    reasons += _over(
        "everything you contribute",
        (spent.user_epsilon, asked.user_epsilon, policy.user_epsilon),
        (asked.user_delta, policy.delta),
    )
    if asked.upload_bytes > policy.upload_bytes:
        size = f"{asked.upload_bytes:,} bytes"
        reasons.append(f"The update would be {size}, more than {policy.upload_bytes:,}.")
    return reasons + about_model(policy, asked.model)


def _over(
    whose: str, epsilons: tuple[float, float, float], deltas: tuple[float, float]
) -> list[str]:
    """Reasons from one guarantee: ε so far, with the round, and at most; δ asked and at most."""
    (so_far, then, most), (delta, largest) = epsilons, deltas
    reasons = []
    if beyond(then, most):
        path = f"from {number(so_far)} to {number(then)}"
        reasons.append(f"It would bring the ε of {whose} {path}, over {number(most)}.")
    if not math.isinf(most) and not delta <= largest:  # without a limit on ε, δ means nothing
        reasons.append(f"The ε of {whose} is counted at δ = {delta:g}, over {largest:g}.")
    return reasons


def beyond(value: float, limit: float) -> bool:
    """Whether the limit is exceeded: an infinite one never is, NaN exceeds every finite one."""
    return not math.isinf(limit) and not value <= limit * (1 + ROUNDING)


def number(epsilon: float) -> str:
    """An ε as a person reads it."""
    return "infinity" if math.isinf(epsilon) else f"{epsilon:.3g}"
