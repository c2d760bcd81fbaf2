"""Secure aggregation: what one member's masked update costs, and what whole rounds cost."""

from __future__ import annotations

from collections.abc import Iterator

from common.console.say import say_aside
from simulations.evidence.benchmarks import secagg_member, secagg_server
from simulations.evidence.benchmarks.secagg_member import MemberCase
from simulations.evidence.benchmarks.secagg_server import ServerCase
from simulations.evidence.benchmarks.timing import Row

MEMBER_CASES = (
    MemberCase(members=9, dimension=1_000_000),
    MemberCase(members=9, dimension=10_000_000),
    MemberCase(members=100, dimension=10_000_000, repeats=3),
)
SERVER_CASES = (
    ServerCase(members=10, dimension=10_000_000),
    ServerCase(members=100, dimension=10_000_000),
    ServerCase(members=1_000, dimension=100_000),
    ServerCase(members=10_000, dimension=100_000),
)
QUICK_MEMBER_CASES = (MemberCase(members=9, dimension=100_000, repeats=3),)
QUICK_SERVER_CASES = (ServerCase(members=10, dimension=100_000),)


def rows(quick: bool) -> Iterator[Row]:
    """One row for each case."""
    for member in QUICK_MEMBER_CASES if quick else MEMBER_CASES:
        say_aside(f"a member: {member}")
        yield secagg_member.row(member)
    for server in QUICK_SERVER_CASES if quick else SERVER_CASES:
        say_aside(f"a whole round: {server}")
        yield secagg_server.row(server)
