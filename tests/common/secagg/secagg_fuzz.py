"""What the fuzzers share: two small rounds, messages bent at random, and a bound on every run."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from secagg_round import FIVE, drive
from spec_reader import number

from common.secagg import RoundTerms

ME = 10
EVERYBODY = replace(FIVE, dimension=5)
SOME = replace(FIVE, dimension=5, cohort=7, least=5, threshold=3, levels=4000)  # 4 of 6 hold
TERMS = st.sampled_from([EVERYBODY, SOME])
BINDINGS = [bytes(range(32)), bytes(32)]
QUIET = settings(  # derandomised: the same examples in every run
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def members_of(terms: RoundTerms) -> list[int]:
    return [3, 10, 11, 200, 2**64 - 1, 0, 77][: terms.cohort]


ROUND = drive(SOME, members_of(SOME), {11: 2})
ELSEWHERE = drive(replace(SOME, attempt=1), members_of(SOME), {})


def fuzzing(machine: type[RuleBasedStateMachine], examples: int, steps: int) -> None:
    bounded = settings(QUIET, max_examples=examples, stateful_step_count=steps)
    run_state_machine_as_test(machine, settings=bounded)


@st.composite
def bent(draw: st.DrawFn, message: bytes, donors: Sequence[bytes] = ()) -> bytes:
    """The message after one to three accidents; they may cancel.

    A part of it is lost, sent twice, reversed or flipped in a bit, or something else takes its
    place: noise, a count, or what stands there, or from there on, in one of the donors.
    """
    for _ in range(draw(st.integers(1, 3))):
        at, to = sorted(draw(st.tuples(*[st.integers(0, len(message))] * 2)))
        part = message[at:to]
        pieces = [b"", part * 2, part[::-1], *[_flipped(part, bit) for bit in (0, 3, 7)]]
        pieces += [number(count, 4) for count in (0, 1, 6, 2**31, 2**32 - 1)]
        pieces += [cut for donor in donors for cut in (donor[at:to], donor[at:])]
        piece = draw(st.one_of(st.sampled_from(pieces), st.binary(max_size=80)))
        message = message[:at] + piece + message[to:]
    return message


def _flipped(part: bytes, bit: int) -> bytes:
    return bytes([part[0] ^ 1 << bit]) + part[1:] if part else part
