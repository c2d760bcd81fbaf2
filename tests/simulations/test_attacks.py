"""The attack table: attacks that work on Flower, fail on Privity, and catch broken members."""

import json
import logging
import math
from dataclasses import asdict, replace
from io import StringIO

import numpy as np
import pytest
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.task_identity import TaskIdentity
from rich.console import Console

from common.secagg import Floor
from simulations.evidence.attacks import as_json, on_privity, run_attacks, show
from simulations.evidence.attacks.measure import (
    CHANCE_COSINE,
    KNOWS_NOTHING,
    SPREAD,
    RefusalsSeen,
    reconstruction,
    synthetic_update,
)
from simulations.evidence.attacks.on_flower import round as flower_round
from simulations.evidence.attacks.on_privity import broken
from simulations.evidence.attacks.on_privity.attacker import Attacker
from simulations.evidence.attacks.on_privity.round import CLIP, MEMBERS, TERMS, VICTIM, PrivityRound
from simulations.evidence.attacks.short_seeds import candidates, first_outputs, fold

READ_IN_FLOWER = {
    "both shares",
    "two lists of survivors",
    "short mask seeds",
    "swapped public keys",
    "replayed keys and messages",
    "different models",
    "small cohorts, low thresholds",
    "chosen neighbours",
}
OTHERS = {
    "drop-out before sharing",
    "figures in clear",
    "silent clipping",
    "malformed messages",
}
NOTHING_SENT = {"swapped public keys", "small cohorts, low thresholds"}
NO_FLOOR = Floor(2, 2, 1, 16, 0.0, -math.inf)

# Rounding moves a coordinate by less than one step for each member in the sum, half of one where
# it is to nearest, and the root mean square of a synthetic update is SPREAD within a few percent.
FLOWER_STEP = 2 * flower_round.CLIPPING_RANGE / flower_round.TARGET_RANGE
WEIGHT = flower_round.EXAMPLES / flower_round.MAX_WEIGHT
FLOWER_BOUND = 1.2 * len(flower_round.MEMBERS) * FLOWER_STEP / WEIGHT / SPREAD
PRIVITY_BOUND = 1.2 * CLIP / TERMS.levels / 2 / SPREAD


@pytest.fixture(scope="module")
def rows():
    return {row.attack: row for row in run_attacks()}


def test_the_table_has_every_attack(rows) -> None:
    assert set(rows) == READ_IN_FLOWER | OTHERS
    assert all(row.how and row.source and row.flower.text and row.privity.text
               for row in rows.values())  # fmt: skip


@pytest.mark.parametrize("attack", sorted(READ_IN_FLOWER))
def test_the_update_is_read_in_flower_and_is_noise_here(rows, attack: str) -> None:
    flower, privity = rows[attack].flower, rows[attack].privity
    assert flower.succeeded and flower.measured["relative_error"] < FLOWER_BOUND
    assert not privity.succeeded
    if attack in NOTHING_SENT:
        assert privity.measured["vectors_sent"] == 0
    else:
        assert privity.measured["relative_error"] > KNOWS_NOTHING
        assert abs(privity.measured["cosine"]) < CHANCE_COSINE


def test_colluders_are_all_holders_no_more_often_than_by_chance(rows) -> None:
    measured = rows["chosen neighbours"].privity.measured
    assert measured["surrounded_by_chance"] == pytest.approx(20_000 / math.comb(19, 4))
    assert 0 < measured["surrounded"] < 17  # P[Poisson(5.16) > 16] < 1e-4, P[= 0] = 0.6 %


def test_a_dropout_before_sharing_ends_flowers_round_and_not_ours(rows) -> None:
    row = rows["drop-out before sharing"]
    assert row.flower.measured == {"members_raised": len(flower_round.MEMBERS) - 1, "sums": 0}
    assert "KeyError" in row.flower.text
    assert row.privity.measured["sum_relative_error"] < len(MEMBERS) * PRIVITY_BOUND


def test_flower_sends_figures_in_clear(rows) -> None:
    row, everybody = rows["figures in clear"], len(flower_round.MEMBERS)
    assert row.flower.measured == {"counts_read": everybody, "losses_read": everybody}
    assert row.privity.measured == {"bytes_that_depend": 0, "sizes_that_depend": 0}


def test_flower_clips_silently(rows) -> None:
    flower, privity = rows["silent clipping"].flower.measured, rows["silent clipping"].privity
    assert flower["clipped_coordinates"] > 100 and flower["reports"] == 0
    assert flower["mean_relative_error"] > 0.1
    assert privity.measured["counted"] == privity.measured["clipped_coordinates"] > 100


def test_flower_takes_malformed_messages(rows) -> None:
    row = rows["malformed messages"]
    assert row.flower.measured["accepted"] == 2
    assert row.flower.measured["sum_relative_error"] > 10
    assert row.privity.measured == {"accepted": 0, "refused": 66, "noticed": 10}


WEAK_TERMS = broken.BrokenTerms(**asdict(TERMS) | {"least": 3, "threshold": 3})


@pytest.mark.parametrize(
    "attack",
    [
        lambda: on_privity.shares.alive_and_dead(broken.BrokenRevealsBoth),
        lambda: on_privity.shares.two_lists(WEAK_TERMS, NO_FLOOR),
        lambda: on_privity.seeds.short_seeds(broken.BrokenWeakSeeds),
        lambda: on_privity.keys.swapped_keys(broken.BrokenTakesAnyRoster),
        lambda: on_privity.models.different_models(broken.BrokenIgnoresBinding),
        lambda: on_privity.cohorts.small_cohorts(NO_FLOOR),
    ],
    ids=["reveals both", "weak terms", "weak seeds", "any roster", "no binding", "no floor"],
)
def test_a_broken_member_is_caught(attack) -> None:
    outcome = attack()
    assert outcome.succeeded
    assert outcome.measured["relative_error"] < PRIVITY_BOUND


def test_the_attackers_cryptography_is_right() -> None:
    """With everything known, the code written from SPEC.md takes every mask off."""
    run = PrivityRound().until(3)
    attacker = Attacker.of(run, ())
    attacker.privates, attacker.seeds = run.privates, run.seeds
    peers = [m for m in MEMBERS if m != VICTIM]
    outcome = reconstruction(synthetic_update(VICTIM), attacker.guess(VICTIM, peers), "")
    assert outcome.measured["relative_error"] < PRIVITY_BOUND


@pytest.mark.parametrize("one_less", ["seeds", "privates"])
def test_one_missing_secret_leaves_noise(one_less: str) -> None:
    run = PrivityRound().until(3)
    attacker = Attacker.of(run, ())
    attacker.seeds = run.seeds if one_less == "privates" else {}
    peers = [m for m in MEMBERS if m != VICTIM]
    known = peers[1:] if one_less == "privates" else peers
    attacker.privates = {m: run.privates[m] for m in known}
    outcome = reconstruction(synthetic_update(VICTIM), attacker.guess(VICTIM, peers), "")
    assert not outcome.succeeded


def test_numpys_generator_is_reproduced_for_many_seeds() -> None:
    seeds = np.array([0, 1, 12345, 2**31, 2**32 - 1], dtype=np.uint32)
    ours = first_outputs(seeds, 6)
    for column, seed in enumerate(seeds.tolist()):
        (theirs,) = pseudo_rand_gen(seed.to_bytes(4, "little"), 2**32, [(6,)])
        assert ours[:, column].tolist() == theirs.tolist()


def test_flowers_seed_has_28_bits_and_16_are_searched() -> None:
    member, (public, _) = flower_round.FlowerMember(1), flower_round.FlowerMember(2).setup()
    member.setup()
    true = fold(flower_round.pair_secret(member.private_key(), public))
    assert true & 0x80808080 == 0
    tried = candidates(true)
    assert len(np.unique(tried)) == 2**16
    assert true in tried
    assert not np.any(tried & np.uint32(0x80808080))


def test_only_the_protocols_own_errors_count_as_refusals() -> None:
    refusals = RefusalsSeen()
    with pytest.raises(ZeroDivisionError):
        refusals.ask(lambda: 1 // 0)
    assert (refusals.asked, refusals.refused) == (1, 0)


def test_flower_is_left_as_it_was() -> None:
    log = logging.getLogger("flwr")
    before = log.handlers, log.propagate, TaskIdentity._run_id
    with pytest.raises(KeyError), flower_round.flower_task() as warnings:
        log.warning("kept")
        raise KeyError
    assert warnings == ["kept"]
    assert (log.handlers, log.propagate, TaskIdentity._run_id) == before


def test_the_table_and_its_json_say_when_an_attack_succeeds(rows) -> None:
    caught = on_privity.shares.alive_and_dead(broken.BrokenRevealsBoth)
    shown = [replace(rows["both shares"], privity=caught), rows["swapped public keys"]]
    out = Console(width=200, record=True, file=StringIO())
    show(shown, out)
    text = out.export_text()
    assert "Of 2 attacks 2 succeed against Flower and 1 against Privity" in text
    data = json.loads(json.dumps(as_json(shown)))
    assert [row["privity"]["succeeded"] for row in data["rows"]] == [True, False]
    assert data["versions"]["flwr"] == "1.41.0"
    assert data["rows"][0]["flower"]["measured"]["relative_error"] < FLOWER_BOUND
