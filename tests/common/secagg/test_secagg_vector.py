"""The worked round of SPEC.md: made by the package, and read once more without it."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from secagg_round import AUTHORITY, BINDING, FIVE, drive, participants, plain_sum, stream, vector
from spec_reader import Member, Reading, number, opened, rebuilt, sha

import common.secagg
from common.secagg import RoundTerms
from common.secagg.parameters import choose, honest_in_sum

VECTOR = json.loads((Path(__file__).parent / "vectors" / "round.json").read_text())
SPEC = (Path(common.secagg.__file__).parent / "SPEC.md").read_text()
MEMBERS = (3, 10, 11, 12, 200, 2**64 - 1)
DROPPED = 10  # shares, then drops
WORKED = replace(FIVE, cohort=6, least=5, levels=5000, noise=2.5)


@pytest.fixture(scope="module")
def reading() -> Reading:
    terms, binding = bytes.fromhex(VECTOR["terms"]), bytes.fromhex(VECTOR["binding"])
    made = Reading(terms, binding, AUTHORITY.public_key())
    made.read_roster(received(1, MEMBERS[0]))
    return made


@pytest.fixture(scope="module")
def people() -> dict[int, Member]:
    return {m: Member.drawn(m, stream(f"p{m}")) for m in MEMBERS}


def sent(leg: int, member: int) -> bytes:
    return bytes.fromhex(VECTOR["sent"][leg][str(member)])


def received(leg: int, member: int) -> bytes:
    return bytes.fromhex(VECTOR["received"][leg][str(member)])


SURVIVORS = [m for m in MEMBERS if m != DROPPED]


def test_the_package_makes_the_worked_round() -> None:
    """Bytes are pinned: a change that breaks old peers must change the version."""
    outcome = drive(WORKED, MEMBERS, {DROPPED: 2})
    assert WORKED.encode().hex() == VECTOR["terms"]
    assert BINDING.hex() == VECTOR["binding"]
    for leg in range(5):
        assert {str(m): data.hex() for m, data in outcome.sent[leg].items()} == VECTOR["sent"][leg]
        inbound = {str(m): data.hex() for m, data in outcome.received[leg].items()}
        assert inbound == VECTOR["received"][leg]
    assert outcome.survivors == set(SURVIVORS)
    assert outcome.total.tolist() == VECTOR["sum"] == plain_sum(WORKED, SURVIVORS).tolist()


def test_terms_and_digests_read_again(reading: Reading) -> None:
    assert RoundTerms(**reading.terms) == WORKED
    assert reading.terms == asdict(WORKED)
    assert reading.digest == WORKED.digest()


def test_adverts_and_roster_read_again(reading: Reading) -> None:
    assert sorted(reading.mask_key) == list(MEMBERS)
    rows = opened(received(1, DROPPED), 2, reading.digest).table(233)
    for member, advert in rows.items():
        assert sent(0, member) == bytes([2, 1]) + reading.digest + number(member) + advert


def test_shares_read_again(reading: Reading) -> None:
    """Holders, coefficients, nonces and boxes come out the same from the same randomness."""
    for member in MEMBERS:
        draw = stream(f"p{member}")
        own = Member.drawn(member, draw)
        assert reading.shares_message(own, draw) == sent(1, member)


def holders(reading: Reading) -> dict[int, dict[int, bytes]]:
    found = {}
    for member in MEMBERS:
        body = opened(sent(1, member), 3, reading.digest)
        assert body.integer(8) == member
        body.take(32)
        found[member] = body.table(160)
    return found


def test_the_choice_of_holders_is_not_symmetric(reading: Reading) -> None:
    chosen = holders(reading)
    assert any(j in chosen[i] and i not in chosen[j] for i in MEMBERS for j in MEMBERS)


def test_inboxes_read_again(reading: Reading) -> None:
    chosen = holders(reading)
    for member in MEMBERS:
        body = opened(received(2, member), 4, reading.digest)
        assert body.members() == list(MEMBERS)
        assert body.table(160) == {i: chosen[i][member] for i in MEMBERS if member in chosen[i]}


def test_every_box_of_the_worked_round_opens(reading: Reading) -> None:
    for member, who in participants(WORKED, MEMBERS).items():
        who.advertise()
        who.share(received(1, member))
        body = opened(who.open(received(2, member)), 10, reading.digest)
        assert (body.integer(8), body.members(), body.left) == (member, [], b"")


def test_masked_inputs_read_again(reading: Reading, people: dict[int, Member]) -> None:
    """y_i = x_i + PRG(b_i) + sum over j > i of PRG(s_ij) - sum over j < i of PRG(s_ij)."""
    chosen = holders(reading)
    for member, own in people.items():
        total = vector(WORKED, member) + reading.self_mask(member, own.seed)
        for peer in MEMBERS:
            if peer in chosen[member] or member in chosen[peer]:
                total = total + reading.pair_mask(member, own.mask_private, peer)
        packed = b"".join(int(y % 2**16).to_bytes(2, "little") for y in total)
        assert sent(2, member) == bytes([2, 5]) + reading.bound + number(member) + packed


def test_confirmations_read_again(reading: Reading) -> None:
    statement, signatures = reading.statement(list(MEMBERS), SURVIVORS), {}
    for member in SURVIVORS:
        assert opened(received(3, member), 6, reading.bound).members() == SURVIVORS
        body = opened(sent(3, member), 7, reading.bound)
        assert body.integer(8) == member
        signatures[member] = body.take(64)
        assert body.left == b""
        reading.device[member].verify(signatures[member], statement)
    for member in SURVIVORS:
        assert opened(received(4, member), 8, reading.bound).table(64) == signatures


def test_reveals_give_the_sum(reading: Reading, people: dict[int, Member]) -> None:
    chosen, shares = holders(reading), {m: {} for m in MEMBERS}
    for holder in SURVIVORS:
        body = opened(sent(4, holder), 9, reading.bound)
        assert body.integer(8) == holder
        for member, entry in body.table(67).items():
            assert entry[0] == (member == DROPPED)
            box = chosen[member][holder]
            assert entry[1:] == reading.unsealed(people[holder], member, box)[entry[0]]
            shares[member][holder] = entry[1:]
    total = sum(reading.residues(sent(2, member)[42:]) for member in SURVIVORS)
    for member in SURVIVORS:
        assert shares[member].keys() == chosen[member].keys() - {DROPPED}
        seed = rebuilt(dict(list(shares[member].items())[:3]))
        assert seed == people[member].seed
        total = total - reading.self_mask(member, seed)
    private = rebuilt(dict(list(shares[DROPPED].items())[-3:]))
    assert private == people[DROPPED].mask_private
    for peer in SURVIVORS:
        if peer in chosen[DROPPED] or DROPPED in chosen[peer]:
            total = total + reading.pair_mask(DROPPED, private, peer)
    assert reading.centred(total) == VECTOR["sum"]


def test_specification_shows_the_worked_round(reading: Reading) -> None:
    assert SPEC.startswith("# Secure aggregation: specification, version 2\n")
    words = SPEC[SPEC.index("```\nterms ") :].split()
    assert VECTOR["terms"] in "".join(words)
    shown = [reading.digest, reading.bound, reading.rho]
    shown += [sha(sent(leg, MEMBERS[0])) for leg in range(5)]
    for value in shown:
        assert value.hex() in words
    assert ", ".join(map(str, VECTOR["sum"][:8])) in SPEC


@pytest.mark.parametrize("cohort", [5, 10, 100, 1000, 10_000])
def test_specification_shows_the_parameters_that_are_chosen(cohort: int) -> None:
    chosen = choose(cohort, corrupt=0.05, losses=0.25)
    sizes = chosen.cohort, chosen.least, chosen.corrupt, chosen.neighbours, chosen.threshold
    row = (*sizes, chosen.colluders, honest_in_sum(*sizes))
    assert f"\n| {' | '.join(map(str, row))} |\n" in SPEC
