"""Terms below what the device asks for are refused before a key of theirs is made."""

from dataclasses import replace

import pytest
from secagg_round import AUTHORITY, FIVE, certificate, device, with_terms

from common.errors import ProtocolError
from common.secagg import Floor, Participant, RoundTerms, require_floor

MEMBER = 3


def offer(terms: RoundTerms, floor: Floor) -> list[int]:
    """Offer terms to a device; how often it drew randomness by the time it refused."""
    drawn: list[int] = []

    def random(count: int) -> bytes:
        drawn.append(count)
        return bytes(count)

    papers = device(MEMBER), certificate(MEMBER), AUTHORITY.public_key()
    with pytest.raises(ProtocolError, match="this device asks for"):
        Participant(terms, MEMBER, *papers, random, floor)
    return drawn


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"cohort": 6}, "cohort 5, this device asks for 6"),
        ({"least": 5}, "least 4, this device asks for 5"),
        ({"threshold": 4}, "threshold 3, this device asks for 4"),
        ({"bits": 24}, "bits 16, this device asks for 24"),
        ({"corrupt_share": 0.4}, "corrupt 1, this device asks for 2"),
    ],
)
def test_terms_below_the_floor_are_refused(asked: dict[str, float], match: str) -> None:
    require_floor(FIVE, Floor())
    with pytest.raises(ProtocolError, match=match):
        require_floor(FIVE, replace(Floor(), **asked))
    assert offer(FIVE, replace(Floor(), **asked)) == []


def test_default_floor_of_each_kind() -> None:
    """What the least careful server could offer, one weakness at a time."""
    lone = {"neighbours": 1, "threshold": 1, "colluders": 0}
    for weak, name in (
        ({**lone, "cohort": 2, "least": 2, "corrupt": 0}, "cohort 2"),
        ({"corrupt": 0, "colluders": 0}, "corrupt 0"),
        (lone, "threshold 1"),
    ):
        terms = with_terms(**weak)
        terms.validate()
        with pytest.raises(ProtocolError, match=name):
            require_floor(terms, Floor())
        assert offer(terms, Floor()) == []


def test_a_graph_that_protects_too_rarely_is_refused() -> None:
    """Of 100 members 5 may collude; 12 holders are far too few for 2^-40."""
    terms = with_terms(
        cohort=100, least=75, corrupt=5, levels=300, neighbours=12, threshold=8, colluders=3
    )
    terms.validate()
    with pytest.raises(ProtocolError, match="privacy bits"):
        require_floor(terms, Floor())
    assert offer(terms, Floor()) == []
    complete = replace(terms, neighbours=99, threshold=60, colluders=5)
    require_floor(complete, Floor())
    with pytest.raises(ProtocolError, match="privacy bits"):  # 3 of 5 colluders: not all counted
        require_floor(replace(complete, colluders=3, threshold=52), Floor())


def test_share_of_the_corrupt_is_rounded_down_but_never_to_nobody() -> None:
    floor = Floor(corrupt_share=0.05)
    assert [floor.corrupt(n) for n in (3, 20, 39, 40, 100)] == [1, 1, 1, 2, 5]
    assert Floor(corrupt_share=0.0).corrupt(1000) == 0
