"""What comes before a round's training: a cohort is drawn, its members exchange keys and shares.

Cold, these are three exchanges of their own. Otherwise they ride on the exchanges of the round
before (common/secagg/SPEC.md, section 5), and the round starts with training.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from common.enrolment.log import DAY_S, EnrolmentLog
from common.errors import InputError, ProtocolError, RoundAbandonedError
from common.rounds.round_terms import round_terms
from common.secagg import Aggregator, RoundTerms
from common.settings import Settings
from server.registry.registry import Registry
from server.round.cohort import Ask, Cohort, Content, Messenger, poisson_sample, simulated_losses
from server.round.noise_plan import plan_noise

log = logging.getLogger("privity.server")


@dataclass(frozen=True, slots=True)
class Federation:
    """What all rounds of a run have in common.

    Attributes:
        online: The nodes that are connected now, in order.
        last: Number of the last round that follows without a pause.
        log: The enrolment log as it is now; None in a simulation, which keeps none.
        told: How many entries of it each device has taken.
    """

    settings: Settings
    registry: Registry
    authority: Ed25519PublicKey
    run: str
    online: Callable[[], list[int]]
    last: Callable[[], int]
    messenger: Messenger
    log: Callable[[], EnrolmentLog | None] = lambda: None
    told: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setup:
    """A round whose members hold each other's shares; `inboxes` go out with the adapter."""

    cohort: Cohort
    terms: RoundTerms
    aggregator: Aggregator
    inboxes: Mapping[int, bytes]


@dataclass(slots=True)
class Drawn:
    """A cohort that was drawn for a round, the round's terms, and the server's side of it.

    Attributes:
        log: The enrolment log that the terms are about.
        known: How much of it each member is known to have.
    """

    cohort: Cohort
    terms: RoundTerms
    aggregator: Aggregator
    log: EnrolmentLog | None
    known: dict[int, int]

    def advertise(self) -> Ask:
        """Leg 1, put to everybody drawn, with what each lacks of the enrolment log."""
        offer: Content = {"round": self.terms.round, "body": self.terms.encode()}
        contents = {member: {**offer, **self._lacking(member)} for member in self.cohort.members}
        for member in contents:
            self.known.pop(member, None)  # until it answers
        return Ask(self.cohort, "advertise", contents)

    def share(self, adverts: Mapping[int, bytes]) -> Ask:
        """Leg 2, put to everybody who advertised."""
        if self.log:
            self.known |= dict.fromkeys(adverts, self.log.size)
        return ask(self.cohort, "share", self.aggregator.roster(adverts))

    def _lacking(self, member: int) -> Content:
        if self.log is None:
            return {}
        return {"log": self.log.part(min(self.known.get(member, 0), self.log.size))}

    def open(self, shares: Mapping[int, bytes]) -> Ask:
        """Whether they can open what was sealed for them, put to everybody who shared."""
        return ask(self.cohort, "open", self.aggregator.inboxes(shares))

    def ready(self, opened: Mapping[int, bytes]) -> Setup:
        """What leg 3 starts from."""
        inboxes = self.aggregator.settle(opened)
        return Setup(self.cohort, self.terms, self.aggregator, inboxes)


def draw(federation: Federation, number: int) -> Cohort:
    """A new attempt at round `number`, with a Poisson sample of the nodes."""
    settings, nodes = federation.settings, enrolled(federation.log(), federation.online())
    attempt = federation.registry.open_attempt(number)
    members = poisson_sample(
        nodes, settings.rounds.cohort_rate, settings.rounds.seed, number, attempt
    )
    lost = simulated_losses(
        settings.simulation.dropout, settings.rounds.seed, number, attempt, nodes
    )
    return Cohort(number, attempt, members, lost)


def enrolled(log: EnrolmentLog | None, nodes: Sequence[int]) -> list[int]:
    """Those of the nodes that nobody's device will object to, until tomorrow."""
    if log is None:
        return list(nodes)
    soon, members = time.time() + DAY_S, log.members
    return [one for one in nodes if one in members and members[one].lasts(soon)]


def offer(federation: Federation, cohort: Cohort) -> Drawn:
    """The terms for a cohort; who is gone from the enrolment log by now is not in it.

    Raises:
        RoundAbandonedError: No secure sum can be made of it, or nothing is left of the user-level
            budget. Nobody was asked anything.
    """
    settings, registry = federation.settings, federation.registry
    noise = plan_noise(settings.rounds, settings.user, registry.user_rhos(), cohort.number)
    log = federation.log()
    cohort.members = enrolled(log, cohort.members)
    place = (federation.run, cohort.number, cohort.attempt, len(cohort.members))
    try:
        terms = round_terms(settings, registry.plan.dimension, *place, noise)
    except (InputError, ProtocolError) as error:  # of this cohort; the expected one was checked
        raise RoundAbandonedError(error.message, error.hint) from None
    if log:
        terms = replace(terms, log_size=log.size, log_head=log.head.hex())
    aggregator = Aggregator(terms, federation.authority)
    return Drawn(cohort, terms, aggregator, log, federation.told)


def ask(cohort: Cohort, leg: str, bodies: Mapping[int, bytes], **more: bytes) -> Ask:
    """A leg that takes one message a member, and what goes to everybody with it."""
    number = cohort.number
    contents: dict[int, Content] = {
        member: {"round": number, "body": body, **more} for member, body in bodies.items()
    }
    return Ask(cohort, leg, contents)


def cold(messenger: Messenger, drawn: Drawn) -> Setup:
    """Three exchanges.

    Raises:
        RoundAbandonedError: Too few members advertised, shared, or opened what others shared.
    """
    adverts, _ = messenger.exchange(drawn.advertise())
    shares, _ = messenger.exchange(drawn.share(adverts))
    opened, _ = messenger.exchange(drawn.open(shares))
    return drawn.ready(opened)


class Ahead:
    """The setup of the next round, carried along by this one; `setup` stays None if it failed.

    It is given up when half of the losses that the next round tolerates have happened before it
    begins: then a cold start brings back those who were lost.

    Attributes:
        next: What to put to members along with the coming exchange, or None.
    """

    def __init__(self, drawn: Drawn | None) -> None:
        self.setup: Setup | None = None
        self.next = drawn.advertise() if drawn else None
        self._drawn = drawn

    @classmethod
    def of(cls, federation: Federation, number: int) -> Ahead:
        """The setup of round `number`, if there is one to come and a cohort for it."""
        if number > federation.last():
            return cls(None)
        try:
            return cls(offer(federation, draw(federation, number)))
        except RoundAbandonedError:
            return cls(None)

    def take(self, answers: Mapping[int, bytes]) -> None:
        """The answers to `next`."""
        if self.next is None or self._drawn is None:
            return
        try:
            self._step(self._drawn, self.next.leg, answers)
        except RoundAbandonedError as error:
            log.info("round %d will start cold: %s", self._drawn.cohort.number, error)
            self.next = None

    def _step(self, drawn: Drawn, leg: str, answers: Mapping[int, bytes]) -> None:
        if leg == "open":
            self.setup, self.next = drawn.ready(answers), None
            return
        if leg == "share":
            self.next = drawn.open(answers)
            return
        if 2 * len(answers) < drawn.terms.cohort + drawn.terms.least:
            raise RoundAbandonedError(f"{len(answers)} of {drawn.terms.cohort} advertised.")
        self.next = drawn.share(answers)
