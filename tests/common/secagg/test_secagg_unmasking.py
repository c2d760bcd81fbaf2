"""Wrong shares among those revealed: what the server tries, and what it still rebuilds."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest

from common.errors import RoundAbandonedError
from common.secagg._hazmat import shamir
from common.secagg.messages import SecretKind
from common.secagg.unmasking import Unmasking

HOLDERS = range(100, 120)
THRESHOLD = 12
MEMBERS = range(8)


class Shares:
    """Shares of a secret for each of a few members, and how often they were combined."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.secrets = {m: hashlib.sha256(bytes([m])).digest() for m in MEMBERS}
        self.shares = {
            m: shamir.split(secret, HOLDERS, THRESHOLD, hashlib.shake_256(secret).digest)
            for m, secret in self.secrets.items()
        }
        self.tries, real = 0, shamir.combine

        def combine(shares: Mapping[int, bytes]) -> bytes:
            self.tries += 1
            return real(shares)

        monkeypatch.setattr(shamir, "combine", combine)

    def lie(self, holder: int, members: Collection[int] = MEMBERS) -> None:
        for member in members:
            self.shares[member][holder] = bytes(shamir.SHARE_BYTES - 1) + b"\1"

    def rebuild(self) -> Callable[[int], bytes]:
        revealed = {
            holder: {
                m: (SecretKind.SELF_MASK, sent[holder])
                for m, sent in self.shares.items()
                if holder in sent
            }
            for holder in HOLDERS
        }
        nothing: Any = {}
        holders = dict.fromkeys(MEMBERS, HOLDERS)
        unmasking = Unmasking(
            b"", b"", THRESHOLD, nothing, holders, nothing, nothing, MEMBERS, revealed
        )
        return lambda member: unmasking._rebuild(
            member, lambda secret: secret == self.secrets[member]
        )


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Shares:
    return Shares(monkeypatch)


@pytest.mark.parametrize("liar", HOLDERS)
def test_one_liar_costs_one_search_for_all_secrets(made: Shares, liar: int) -> None:
    made.lie(liar)
    rebuild = made.rebuild()
    assert {member: rebuild(member) for member in MEMBERS} == made.secrets
    assert made.tries <= THRESHOLD + len(MEMBERS)


def test_two_that_lie_in_turn_cost_one_search_each(made: Shares) -> None:
    for member in MEMBERS:
        made.lie(HOLDERS[10 if member % 2 else 0], [member])
    rebuild = made.rebuild()
    assert {member: rebuild(member) for member in MEMBERS} == made.secrets
    assert made.tries <= 2 * THRESHOLD + len(MEMBERS)


def test_a_right_share_of_a_liar_is_taken_where_it_is_needed(made: Shares) -> None:
    made.lie(HOLDERS[0], [0])
    for holder in HOLDERS[THRESHOLD:]:
        del made.shares[1][holder]
    rebuild = made.rebuild()
    assert [rebuild(0), rebuild(1)] == [made.secrets[0], made.secrets[1]]


def test_what_does_not_fit_is_never_returned(made: Shares) -> None:
    for holder in HOLDERS[::3]:
        made.lie(holder)
    with pytest.raises(RoundAbandonedError, match="do not rebuild"):
        made.rebuild()(0)
