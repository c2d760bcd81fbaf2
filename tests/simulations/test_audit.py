"""The audit: its statistics by hand and by simulation, and that it can fail."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import binomtest
from test_report_page import ATTACK, Page

from client.federation import contribution, participation
from client.federation import gain as client_evaluation
from client.federation.budget import next_release
from client.federation.steps import Steps
from client.learning.training import Trained, train_shared
from client.vault.ledger import Ledger
from common.adapter import lora
from common.adapter.plan import BOTH, Vector
from common.adapter.weights import Shared, whole
from common.errors import InputError
from common.learning.backbone import Backbone, adapter_plans
from common.models import load_tokenizer
from common.privacy.accountant import Release, epsilon
from common.privacy.user_level import user_epsilon
from common.rounds.round_terms import round_terms
from common.secagg import Participant
from common.secagg.quantize import clip_norm, quantize_towards_zero
from common.secagg.sealing import Sealer
from common.settings import Settings, UserLevel
from common.tasks import TASKS
from common.tasks.chat import Turn, tokenize
from common.tasks.task import Encoded
from server.round.noise_plan import plan_noise
from simulations.cli import main
from simulations.devices import SeededRandomness
from simulations.evidence.audit import (
    VARIANTS,
    AuditReport,
    Finding,
    checks,
    exposure,
    run_audit,
    show,
)
from simulations.evidence.audit import device_record as on_one_device
from simulations.evidence.audit import device_user as on_two_devices
from simulations.evidence.audit import one_run_record as record
from simulations.evidence.audit import one_run_user as user
from simulations.evidence.audit.bound import (
    count_right,
    interval,
    one_run_epsilon,
    p_value,
    several_counts_epsilon,
    two_worlds_epsilon,
)
from simulations.evidence.audit.canaries import CanaryBackbone, canary
from simulations.evidence.audit.checks import SOUND_ONLY, TELLING, Check, plan
from simulations.evidence.audit.device_record import device_record
from simulations.evidence.audit.device_user import device_user, noise_size, shifted_epsilon
from simulations.evidence.audit.exposure import Exposure
from simulations.evidence.audit.faults import fault
from simulations.evidence.audit.federation import EXAMPLES, Federation
from simulations.evidence.audit.figure import figure
from simulations.evidence.audit.findings import BROKEN, CAUGHT, HOLDS, MISSED, SHOWN, SOUND, judged
from simulations.evidence.audit.influence import influence
from simulations.evidence.audit.member_inference import (
    auc_of,
    mean_losses,
    membership_finding,
    separation,
)
from simulations.evidence.audit.on_page import render
from simulations.evidence.audit.one_device import OneStream, new_device
from simulations.evidence.audit.one_run_record import record_level
from simulations.evidence.audit.one_run_user import user_level
from simulations.evidence.audit.people import examples_of, talk
from simulations.evidence.audit.reconstruction import _masked, reconstruction
from simulations.evidence.audit.scale import CLAIMED_EPSILON, DELTA, FULL, QUICK, STRENGTH, Scale
from simulations.evidence.audit.secrets_inserted import Secret, secrets_of
from simulations.evidence.audit.small_cohort import Person, SmallCohort
from simulations.evidence.audit.system import System, coins, stream

SMALL = Scale(
    canaries=200, rounds=2, cohort=200, user_rounds=2, runs=20, strangers=50, trials=10
)  # fmt: skip
# As many repetitions and canaries as it takes to tell a ledger that forgets.
ASKED = replace(SMALL, rounds=25, canaries=400)
REPEATED = (device_record, device_user)
TRUTHFUL = 1 / (1 + math.exp(-1))  # how often randomised response with ε = 1 tells the truth


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        (10, 1.0519),  # 0.05^(1/10) = 0.741134; ln(0.741134 / 0.258866)
        (40, 2.5540),  # 0.05^(1/40) = 0.927842; ln(0.927842 / 0.072158)
    ],
)
def test_all_guesses_right_refute_what_randomised_response_could_do(
    right: int, expected: float
) -> None:
    assert one_run_epsilon(100, right, right, 0.0) == pytest.approx(expected, abs=2e-4)


def test_several_counts_share_the_risk() -> None:
    """Two counts at 97.5 % each: 0.025^(1/10) = 0.691503, whose odds are e^0.8072."""
    assert several_counts_epsilon(100, [(20, 10), (10, 10)], 0.0) == pytest.approx(0.8072, abs=1e-3)


def test_the_p_value_with_delta_by_hand() -> None:
    """m = 20, 10 of 10 right, ε = 0: β = 1/1024; P[10 > W ≥ 10 − i] / i is largest at i = 6.

    (10 + 45 + 120 + 210 + 252 + 210) / 6 = 141.17 of 1024; times 2 m δ = 0.04.
    """
    assert p_value(20, 10, 10, 0.0, 0.0) == pytest.approx(1 / 1024)
    assert p_value(20, 10, 10, 0.0, 1e-3) == pytest.approx((1 + 0.04 * 847 / 6) / 1024)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_the_p_value_is_monotone(data: st.DataObject) -> None:
    guesses = data.draw(st.integers(1, 60))
    right = data.draw(st.integers(0, guesses - 1))
    claimed = data.draw(st.floats(0, 5))
    base = p_value(100, guesses, right, claimed, 1e-4)
    assert 0 <= base <= 1
    assert p_value(100, guesses, right, claimed + 0.5, 1e-4) >= base
    assert p_value(100, guesses, right, claimed, 1e-3) >= base
    assert p_value(200, guesses, right, claimed, 1e-4) >= base
    exact = p_value(100, guesses, right, claimed, 0.0)
    assert p_value(100, guesses, right + 1, claimed, 0.0) <= exact <= base


def test_guesses_no_better_than_chance_refute_nothing() -> None:
    assert one_run_epsilon(100, 50, 25, 0.0) == 0.0
    assert two_worlds_epsilon(20, 20, 40, 0.0) == 0.0


def test_randomised_response_at_the_hypothesised_epsilon_is_seldom_refuted() -> None:
    """4,000 runs, through the scores: at most 5 % in truth, so at most 5 % + 5 σ of 0.34 %.

    With 60 of 200 guesses the test's exact size is 4.6 %; with fewer than 2 % it would be blunt.
    """
    chance, refuted = np.random.default_rng(1), 0
    for _ in range(4000):
        included = chance.random(200) < 0.5
        said = included ^ (chance.random(200) > TRUTHFUL)
        right = count_right(said + chance.random(200) / 2, included, 60)
        refuted += p_value(200, 60, right, 1.0, 0.0) < 0.05
    assert 0.02 < refuted / 4000 < 0.05 + 5 * 0.0034


def test_two_worlds_of_randomised_response_are_seldom_refuted() -> None:
    """2,000 audits of 40 runs in each world, ε = 1: at most 5 % + 5 σ of 0.49 %."""
    wrong = np.random.default_rng(2).binomial(40, 1 - TRUTHFUL, (2000, 2))
    refuted = sum(two_worlds_epsilon(a, b, 40, 0.0) > 1.0 for a, b in wrong.tolist())
    assert refuted / 2000 < 0.05 + 5 * 0.0049


@pytest.mark.parametrize(("runs", "expected"), [(20, 1.5968), (40, 2.3371), (200, 3.9838)])
def test_two_worlds_told_apart_without_a_mistake_by_hand(runs: int, expected: float) -> None:
    """ln((1 − x) / x) for x = 1 − 0.025^(1/n)."""
    assert two_worlds_epsilon(0, 0, runs, 0.0) == pytest.approx(expected, abs=1e-4)
    assert two_worlds_epsilon(0, 0, runs, 1e-2) < expected


def test_noise_and_the_same_moved_by_hand() -> None:
    """Two thresholds share 4.9 %: 40 draws apart give ln((1 − x) / x), x = 1 − 0.01225^(1/40)."""
    noise = np.zeros(40)
    assert shifted_epsilon(noise, 2.0, (1.0, 9.0)) == pytest.approx(2.1512, abs=1e-4)
    assert shifted_epsilon(noise, 2.0, (9.0, 9.0)) == 0.0  # nothing of either world is beyond
    some = np.repeat([0.0, 3.0], [900, 100])
    expected = two_worlds_epsilon(100, 0, 1000, DELTA, 1 - 0.049)
    assert shifted_epsilon(some, 3.0, (2.5,)) == pytest.approx(expected)


def test_laplace_noise_of_the_hypothesised_epsilon_is_seldom_refuted() -> None:
    """1,000 audits of 500 draws, ε = 1 at every threshold: at most 4.9 % + 5 σ of 0.68 %."""
    chance = np.random.default_rng(9)
    refuted = sum(
        shifted_epsilon(chance.laplace(size=500), 1.0, (0.5, 2.0 * math.sqrt(2))) > 1.0
        for _ in range(1000)
    )
    assert refuted / 1000 < 0.049 + 5 * 0.0068


def test_the_size_of_noise_is_covered_as_often_as_it_says() -> None:
    """2,000 draws of 50 at 99.9 %: 2 are expected beyond, and 10 would be too many by 5 σ."""
    chance = np.random.default_rng(10)
    found = [noise_size(3 * chance.normal(size=50), 3.0) for _ in range(2000)]
    shares, most = np.array(found).T
    assert shares.mean() == pytest.approx(1, abs=5 * math.sqrt(2 / 50 / 2000))
    assert (most < 1).sum() < 10
    assert noise_size(np.ones(1), 1.0)[1] == pytest.approx(1 / 1.5708e-6, rel=1e-3)  # χ²₁ at 0.1 %


def test_either_rate_alone_can_refute() -> None:
    """No false alarm, half missed: ln((1 − 0.66196) / 0.088097) = 1.345; 0.66196 is 20 of 40's."""
    assert two_worlds_epsilon(0, 20, 40, 0.0) == pytest.approx(1.345, abs=1e-3)
    assert two_worlds_epsilon(20, 0, 40, 0.0) == two_worlds_epsilon(0, 20, 40, 0.0)
    assert two_worlds_epsilon(0, 40, 40, 0.0) == 0.0


@pytest.mark.parametrize(
    ("successes", "trials"), [(0, 10), (1, 10), (10, 10), (7, 96), (500, 1000)]
)
@pytest.mark.parametrize("confidence", [0.95, 0.999])
def test_the_interval_is_scipys(successes: int, trials: int, confidence: float) -> None:
    theirs = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    assert interval(successes, trials, confidence) == pytest.approx((theirs.low, theirs.high))


def test_the_extremes_are_guessed_and_the_middle_is_not() -> None:
    scores = np.array([5.0, 1.0, 3.0, 4.0, 0.0, 2.0])
    included = np.array([True, False, False, False, False, True])
    assert count_right(scores, included, 2) == 2  # 5.0 in, 0.0 out
    assert count_right(scores, included, 4) == 3  # 4.0 was out
    assert count_right(scores, included, 6) == 3  # 2.0 was in, 3.0 out
    assert count_right(-scores, included, 2) == 0


def test_auc_is_the_share_of_pairs_in_order_ties_half() -> None:
    chance = np.random.default_rng(3)
    members, strangers = chance.integers(0, 6, 23).astype(float), chance.integers(0, 5, 31) * 1.0
    pairs = list(itertools.product(members, strangers))
    count = sum((m > s) + (m == s) / 2 for m, s in pairs)
    assert auc_of(members, strangers)[0] == pytest.approx(count / len(pairs))
    assert auc_of(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == (1.0, 0.0)


def test_delongs_standard_error_is_the_spread_of_the_auc() -> None:
    """400 draws: the spread is known to 3.5 %, so 18 % is 5 σ."""
    chance = np.random.default_rng(4)
    drawn = [auc_of(chance.normal(0.7, 1, 40), chance.normal(0, 2, 90)) for _ in range(400)]
    aucs, errors = np.array(drawn).T
    assert errors.mean() == pytest.approx(aucs.std(ddof=1), rel=0.18)


@pytest.mark.parametrize(("strangers", "rate"), [(2000, 0.005), (10_000, 0.001), (20_000, 0.001)])
def test_no_more_strangers_pass_than_the_rate_says(strangers: int, rate: float) -> None:
    scores = np.random.default_rng(5).permutation(strangers).astype(float)
    limit = strangers - strangers * rate  # the last of those allowed to pass
    found = separation(np.array([limit - 1, limit, limit + 0.5, limit + 1]), scores)
    assert found.rate == rate
    assert found.hits == 0.5
    assert (scores > limit).sum() < rate * strangers


def test_a_claim_is_refuted_by_auc_or_by_low_false_alarms_and_by_nothing_less() -> None:
    chance = np.random.default_rng(6)
    strangers, ordinary = chance.normal(size=2000), chance.normal(size=100)
    few = np.where(np.arange(100) < 10, 9.0, ordinary)  # 10 % known for certain, AUC 0.55
    for members, expected in ((ordinary, HOLDS), (few, BROKEN), (ordinary + 3, BROKEN)):
        found = separation(members, strangers)
        assert membership_finding(SOUND, "a", found, claim=True).verdict == expected
        assert membership_finding(SOUND, "a", found, claim=False).verdict == SHOWN
    assert separation(few, strangers).auc_interval[0] < 0.73


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """The tiny model with a shared adapter that does something."""
    settings = Settings.of(model="tiny", modules="q_proj,v_proj", rank=4, layers=0)
    made = Backbone(TASKS["chat"], "tiny", *adapter_plans(settings))
    lora.write(made.model, lora.SHARED, made.shared, BOTH, _weights(made))
    return made


def _weights(made: Backbone) -> Vector:
    sent = np.random.default_rng(7).normal(0, 0.3, made.shared.dimension).astype(np.float32)
    return whole(Shared(made.shared, sent))


def test_each_example_gets_its_own_loss(backbone: Backbone) -> None:
    """Batches are made by length: the losses must come back in the order of the examples."""
    turns = examples_of(talk(0, "test"), 12, Settings.of(model="tiny").task)
    turns = [replace(turn, answer=turn.answer[: 3 + 5 * n % 12]) for n, turn in enumerate(turns)]
    losses = mean_losses(backbone, backbone.prepared(turns), _weights(backbone))
    for turn, loss in zip(turns, losses, strict=True):
        tokens = tokenize(turn, backbone.tokenizer)
        ids, labels = torch.tensor([tokens.ids]), torch.tensor(tokens.labels[1:])
        with torch.no_grad(), lora.active(backbone.model, lora.SHARED):
            chances = backbone.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        own = chances.gather(1, labels.clamp(min=0)[:, None])[labels >= 0]
        assert loss == pytest.approx(-float(own.mean()), rel=1e-4)


class ByHeart:
    """A model that knows one text by position: its tokens are e^sure times likelier."""

    def __init__(self, turn: Turn, sure: float) -> None:
        self.tokenizer, self.task = load_tokenizer("tiny"), TASKS["chat"]
        self.model, self._sure = self, sure
        self._ids = torch.tensor(tokenize(turn, self.tokenizer).ids)

    def encode(self, turn: Turn) -> Encoded:
        return tokenize(turn, self.tokenizer)

    def __call__(self, input_ids: torch.Tensor, **_: bool) -> SimpleNamespace:
        rows, length = input_ids.shape
        logits = torch.zeros(rows, length, len(self.tokenizer))
        logits[:, torch.arange(length), self._ids[1 : length + 1]] = self._sure
        return SimpleNamespace(logits=logits)


@pytest.mark.parametrize(
    ("code", "sure", "rank", "said"),
    [
        ("4719", 3.0, 1, True),
        ("4719", 0.0, 10_000, False),  # all alike: ties count against
        ("4710", 3.0, 1 + 4 * 9, False),  # behind 4719, among the 36 with one digit wrong
        ("5820", 3.0, 10_000, False),  # no digit right
    ],
)
def test_the_rank_of_a_secret_by_hand(code: str, sure: float, rank: int, said: bool) -> None:
    known: Any = ByHeart(Secret("safe", "4719", 1).said(TASKS["chat"]), sure)
    secret = Secret("safe", code, 1)
    assert exposure._rank(known, secret) == rank
    assert exposure._says(known, secret) == said


def test_every_codes_likelihood_is_that_of_the_whole_answer(backbone: Backbone) -> None:
    """300 of the 10,000 codes, each as the example that would be trained on."""
    asked = Secret("card", "0000", 1)
    with torch.no_grad(), lora.active(backbone.model, lora.SHARED):
        ours = exposure._likelihoods(backbone, exposure._before(backbone, asked))
        for number in range(0, 10_000, 34):
            turn = replace(asked, code=f"{number:04d}").said(TASKS["chat"])
            ids = torch.tensor([tokenize(turn, backbone.tokenizer).ids[:-1]])
            chances = backbone.model(input_ids=ids).logits[0, -8:-1].double().log_softmax(-1)
            theirs = chances.gather(1, ids[0, -7:, None]).sum()  # four digits, three spaces
            assert ours[number] == pytest.approx(float(theirs), abs=1e-3)
    assert len(np.unique(ours)) > 9000


def test_bits_and_p_values_of_ranks_by_hand() -> None:
    assert Exposure(1, 1, repeated=False).bits == pytest.approx(13.2877, abs=1e-4)
    assert Exposure(1, 10_000, repeated=False).bits == 0.0
    assert Exposure(0, 7, repeated=False).p_value(1.0, DELTA) == 0.0007
    once, twice = (Exposure(times, 3, repeated=False).p_value(1.0, DELTA) for times in (1, 2))
    assert once == pytest.approx(2.718282 * 3e-4 + 1e-5)
    assert twice == pytest.approx(7.389056 * 3e-4 + 3.718282e-5)  # δ (e + 1)
    assert Exposure(32, 1, repeated=True).p_value(1.0, DELTA) == 1.0


def test_only_a_rank_that_the_claim_makes_improbable_refutes_it() -> None:
    for rank, verdict in ((1, BROKEN), (200, HOLDS)):
        found = [Exposure(0, 5000, repeated=False), Exposure(1, rank, repeated=False)]
        assert exposure.exposure_finding(SOUND, "a", found, claim=True).verdict == verdict
        assert exposure.exposure_finding(SOUND, "a", found, claim=False).verdict == SHOWN


def test_secrets_are_in_one_persons_records_as_often_as_they_say() -> None:
    federation = Federation.of(System(), strangers=5, seed=0)
    own, others = federation.examples(0), federation.examples(1)
    assert len(others) == EXAMPLES
    inserted = [tuple(example.labels.tolist()) for example in own[EXAMPLES:]]
    for secret in federation.secrets:
        (example,) = federation.backbone.prepared([secret.said(TASKS["chat"])])
        assert inserted.count(tuple(example.labels.tolist())) == secret.times
        assert secret.code not in repr(secret)
    assert secrets_of(0) == federation.secrets != secrets_of(1)


@pytest.fixture(scope="module")
def with_canaries() -> tuple[CanaryBackbone, Settings]:
    settings = record.canary_settings(FULL)
    made = CanaryBackbone(settings, STRENGTH * settings.record.max_grad_norm)
    assert made.shared.dimension >= FULL.canaries
    return made, settings


def test_a_canarys_gradient_through_the_model_is_its_coordinate(
    with_canaries: tuple[CanaryBackbone, Settings],
) -> None:
    backbone, _ = with_canaries
    plan, chance = backbone.shared, np.random.default_rng(8)
    weights = chance.normal(size=plan.dimension).astype(np.float32)
    lora.write(backbone.model, lora.SHARED, plan, plan.sent, weights)
    for coordinate in (0, 1, FULL.canaries - 1, plan.dimension - 1):
        (batch,) = backbone.batches(backbone.prepared([canary(coordinate)]))
        with lora.trainable(backbone.model, lora.SHARED, plan) as layers:
            loss = backbone.losses(batch)[0].sum()
            found = torch.autograd.grad(loss, list(layers.parameters()))
        gradient = np.concatenate([part.numpy().ravel() for part in found])
        wanted = np.zeros(plan.dimension)
        wanted[coordinate] = backbone.strength
        assert np.array_equal(gradient, wanted.astype(np.float32))
        assert float(loss.detach()) == pytest.approx(backbone.strength * weights[coordinate])


@pytest.mark.parametrize(("bound", "moved"), [(1.0, 1.0), (100.0, STRENGTH)])
def test_the_private_step_clips_every_canary_by_itself(
    with_canaries: tuple[CanaryBackbone, Settings], bound: float, moved: float
) -> None:
    """A bound 100 times as wide shows the canaries' own gradients, 20 C each, canary by canary."""
    backbone, settings = with_canaries
    plan, present = backbone.shared, [3, 7, 7, 300, 301]
    published = Shared(plan, plan.initial(plan.sent))
    loose = settings.but(max_grad_norm=bound * settings.record.max_grad_norm)
    random = SeededRandomness(0, 0).stream("noise")
    examples = backbone.prepared([canary(coordinate) for coordinate in present])
    sent = train_shared(
        backbone, published, None, examples, loose, Release(0.0, 1.0, 1), random
    ).sent  # fmt: skip
    unit = (
        settings.training.learning_rate * settings.record.max_grad_norm / settings.rounds.examples
    )
    wanted = np.zeros(plan.dimension)
    np.subtract.at(wanted, present, moved * unit)
    assert np.allclose(sent - published.vector, wanted, rtol=1e-5, atol=1e-9)


def test_real_examples_and_canaries_are_each_seen_once(
    with_canaries: tuple[CanaryBackbone, Settings],
) -> None:
    backbone, _ = with_canaries
    real = backbone.prepared(examples_of(talk(0, "test"), 3, Settings.of(model="tiny").task))
    examples = backbone.prepared([canary(n) for n in range(600)])
    sizes = [len(backbone.losses(b)[0]) for b in backbone.batches([*examples, *real])]
    assert sum(sizes) == 603


class Watched:
    """A system whose releases are written down, and which trains nothing."""

    def __init__(self, system: System) -> None:
        self.releases: list[Release] = []
        self.rhos: list[float] = []
        steps = replace(system.steps, train_shared=self._trained)
        self.system = replace(system, steps=steps, plan_noise=self._noise(system.plan_noise))

    def _trained(self, *arguments: Any, **_parts: Any) -> Trained:
        _, published, _, _, _, release, _ = arguments
        self.releases.append(release)
        return Trained(published.vector, np.empty(0, dtype=np.float32), 0.0, 0)

    def _noise(self, planned: Callable[..., float]) -> Callable[..., float]:
        def plan_and_remember(rounds: Any, user: Any, spent: list[float], number: int) -> float:
            self.rhos = spent  # the audit's own list, complete once it is done
            return planned(rounds, user, spent, number)

        return plan_and_remember


@pytest.mark.parametrize("rounds", [3, 25])
def test_the_sound_record_level_run_spends_what_is_claimed(rounds: int) -> None:
    watched = Watched(System())
    record_level(watched.system, replace(SMALL, rounds=rounds), 0)
    assert len(watched.releases) == rounds
    assert 0.95 < epsilon(watched.releases, DELTA) <= CLAIMED_EPSILON


def test_the_sound_user_level_run_spends_what_is_claimed() -> None:
    watched = Watched(System())
    user_level(watched.system, replace(SMALL, user_rounds=3), 0)
    assert len(watched.rhos) == 3
    assert 0.95 < user_epsilon(watched.rhos, DELTA) <= CLAIMED_EPSILON


def test_an_accountant_that_forgets_overspends_at_both_levels() -> None:
    """25 rounds of ε = 1 each; composed they cost more than 5."""
    record_side, user_side = (Watched(VARIANTS["accountant-reset"]) for _ in range(2))
    record_level(record_side.system, replace(SMALL, rounds=25), 0)
    user_level(user_side.system, replace(SMALL, user_rounds=25), 0)
    assert epsilon(record_side.releases, DELTA) > 5
    assert user_epsilon(user_side.rhos, DELTA) > 5


def test_the_canary_people_carry_exactly_the_planned_noise() -> None:
    """8 sums: the variance of about 1,000 draws is within 5 σ of theory, the members' shift exact.

    One honest person more would add noise that no claim counts on.
    """
    settings = user._settings(replace(SMALL, user_rounds=8))
    people = user._honest(settings.sum, settings.rounds)
    included = coins(people, stream(0, "test/coins"))
    noise = plan_noise(settings.rounds, settings.user, [], 1)
    drawn = []
    for number in range(8):
        terms = round_terms(settings, people, "audit", number, 0, SMALL.cohort, noise)
        exact = user.honest_sum(VARIANTS["noise-off"], settings.user, terms, included, 0)
        assert np.array_equal(exact, included * terms.levels)
        noisy = user.honest_sum(System(), settings.user, terms, included, 0)
        drawn.append((noisy - exact) / terms.levels)
    deviations = np.concatenate(drawn) / noise
    assert deviations.size > 900
    assert deviations.var() == pytest.approx(1, abs=5 * math.sqrt(2 / deviations.size))
    assert abs(deviations.mean()) < 5 / math.sqrt(deviations.size)


def verdicts(found: list[Finding]) -> list[str]:
    return [finding.verdict for finding in found]


@pytest.mark.parametrize("check", [record_level, user_level])
@pytest.mark.parametrize("variant", ["noise-off", "clipping-off"])
def test_a_small_audit_tells_noise_and_clipping_off_from_sound(check: Check, variant: str) -> None:
    assert verdicts(check(VARIANTS[variant], SMALL, 0)) == [CAUGHT]
    assert verdicts(check(System(), SMALL, 0)) == [HOLDS]


def test_a_small_audit_tells_a_figure_without_noise_from_a_sound_one() -> None:
    (sound,), (bare,) = (figure(s, SMALL, 0) for s in (System(), VARIANTS["noise-off"]))
    assert (sound.verdict, bare.verdict) == (HOLDS, CAUGHT)
    assert sound.figures["shift"] == pytest.approx(1, abs=1e-3)
    assert bare.figures["false_alarms"] + bare.figures["misses"] == 0


def misuse(monkeypatch: pytest.MonkeyPatch, part: str, broken: Any) -> None:
    """Exchange a function of `client.federation.contribution` wherever it is called."""
    for place in (contribution, participation, user):
        if hasattr(place, part):
            monkeypatch.setattr(place, part, broken)


def _without_noise(function: Callable[..., Any]) -> Callable[..., Any]:
    def trained(device: Any, job: Any) -> Any:
        def plain(*given: Any, **parts: Any) -> Trained:
            *others, _release, random = given
            return device.steps.train_shared(*others, None, random, **parts)

        return function(replace(device, steps=replace(device.steps, train_shared=plain)), job)

    return trained


def _without_past(function: Callable[..., Any]) -> Callable[..., Any]:
    def cost(device: Any, settings: Settings, terms: Any) -> Any:
        new = replace(device, store=new_device(System(), OneStream(bytes)).store)
        forgotten = next_release([], settings.but(rounds=1), 1)
        return replace(function(new, settings, terms), record=forgotten)

    return cost


def _without_share(function: Callable[..., Any]) -> Callable[..., Any]:
    def sent(device: Any, user: UserLevel, terms: Any, *vectors: Any) -> Any:
        exact = replace(user, epsilon=0.0), replace(terms, noise=0.0)
        return function(device, *exact, *vectors)

    return sent


@pytest.mark.parametrize(
    ("part", "broken", "check"),
    [
        ("train", _without_noise, record_level),
        ("agreed_cost", _without_past, record_level),
        ("summand", _without_share, user_level),
    ],
)
def test_a_device_that_is_put_together_wrongly_is_broken(
    monkeypatch: pytest.MonkeyPatch, part: str, broken: Any, check: Check
) -> None:
    """Each part is sound, and the device does not use it as it should: noise, ledger, share."""
    misuse(monkeypatch, part, broken(getattr(contribution, part)))
    (found,) = check(System(), replace(SMALL, rounds=25, canaries=1000), 0)
    assert found.verdict == BROKEN


def test_a_figure_that_forgets_its_noise_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    real = client_evaluation.coordinate

    def bare(steps: Steps, *arguments: Any) -> Any:
        return real(replace(steps, figure_noise=lambda size, *_: np.zeros(size)), *arguments)

    monkeypatch.setattr(client_evaluation, "coordinate", bare)
    (found,) = figure(System(), SMALL, 0)
    assert found.verdict == BROKEN


def test_a_personal_adapter_left_on_moves_the_sum_by_more_than_the_bound() -> None:
    (sound,), (leaking,) = (
        influence(system, SMALL, 0) for system in (System(), VARIANTS["personal-left-on"])
    )
    assert (sound.verdict, leaking.verdict) == (HOLDS, CAUGHT)
    assert sound.figures["shift"] <= 1.001
    assert leaking.figures["shift"] > 2


@pytest.mark.parametrize("check", REPEATED)
def test_a_ledger_that_forgets_shows_when_rounds_are_repeated(check: Check) -> None:
    assert verdicts(check(VARIANTS["ledger-forgets"], ASKED, 0)) == [CAUGHT]
    assert verdicts(check(System(), ASKED, 0)) == [HOLDS]


def quiet_summand(
    _device: Any, user: UserLevel, terms: Any, change: Any, figure: Any
) -> np.typing.NDArray[np.int64]:
    bounded = np.concatenate([clip_norm(change, user.clip), figure])
    return quantize_towards_zero(bounded, terms.clip, terms.levels).astype(np.int64)


def unclipped_summand(device: Any, user: UserLevel, terms: Any, change: Any, _: Any) -> Any:
    noise = device.steps.noise_share(
        change.size, terms.noise, device.randomness.stream(f"{terms.attempt}")
    )
    return np.trunc(change * (terms.levels / terms.clip)).astype(np.int64) + noise


@pytest.mark.parametrize(
    ("part", "broken", "check"),
    [
        ("summand", quiet_summand, device_user),
        ("summand", unclipped_summand, device_user),
        ("agreed_cost", VARIANTS["ledger-forgets"].steps.cost, device_record),
        ("agreed_cost", VARIANTS["ledger-forgets"].steps.cost, device_user),
    ],
)
def test_a_device_that_forgets_is_broken(
    monkeypatch: pytest.MonkeyPatch, part: str, broken: Any, check: Check
) -> None:
    """The client's own glue is exchanged, and nothing that a variant exchanges."""
    misuse(monkeypatch, part, broken)
    assert verdicts(check(System(), ASKED, 0)) == [BROKEN]


@pytest.mark.parametrize(
    ("name", "broken", "check"),
    [
        ("charge", lambda *_: None, device_record),
        ("charge", lambda *_: None, device_user),
        ("releases", lambda _: [], device_record),
        ("user_rhos", lambda _: [], device_user),
    ],
)
def test_a_ledger_that_forgets_is_broken(
    monkeypatch: pytest.MonkeyPatch, name: str, broken: Any, check: Check
) -> None:
    monkeypatch.setattr(Ledger, name, broken)
    assert verdicts(check(System(), ASKED, 0)) == [BROKEN]


def test_the_sum_is_what_the_devices_contribute_and_the_rest_adds_nothing() -> None:
    """Without noise: minus one clip norm, exactly, in the canary's coordinate; zeros elsewhere."""
    settings = on_two_devices._settings()
    backbone = CanaryBackbone(settings, STRENGTH * settings.user.clip)
    quiet = fault("quiet", noise_share=VARIANTS["noise-off"].steps.noise_share)
    people = [Person([canary(7)]), Person()]
    cohort = SmallCohort(quiet.on(backbone), settings, people, 0, "test")
    terms = cohort.terms(1, 0, plan_noise(settings.rounds, settings.user, (), 1))
    total = cohort.sum(terms)
    assert np.flatnonzero(total).tolist() == [7]
    assert total[7] == -terms.levels
    honest = [type(member).__name__ for member in cohort._members.values()].count("_Honest")
    assert honest == on_two_devices._honest(settings.sum)


def test_a_sound_device_answers_what_its_ledger_allows_and_no_more() -> None:
    """Three planned rounds; asked for 25 times, they stay within what is claimed."""
    settings = on_one_device._settings(replace(ASKED, canaries=10))
    backbone = CanaryBackbone(settings, STRENGTH * settings.record.max_grad_norm)
    people = [Person([canary(n) for n in range(10)])]
    cohort = SmallCohort(System().on(backbone), settings, people, 0, "test")
    assert len(list(cohort.sums(25))) == on_one_device.ROUNDS
    device: Any = cohort._members[1]
    spent = device._device.store.ledger.spent("record")
    assert 0.95 < spent.epsilon <= CLAIMED_EPSILON
    (found,) = device_user(System(), ASKED, 0)
    assert found.figures["rounds_answered"] == 1


class NoMasks(Participant):
    """Sends its vector as it is."""

    def _sealer(self) -> Sealer:
        return _Open(self._digest, self._roster, self._member, self._state)


class _Open(Sealer):
    def masks(self, *_: object) -> list[tuple[bytes, int]]:
        return []


def test_reconstruction_needs_noise_off_or_masks_off() -> None:
    bare, noisy, masked = reconstruction(System(), SMALL, 0)
    assert bare.figures["right"] == SMALL.trials
    assert verdicts([bare, noisy, masked]) == [SHOWN, HOLDS, HOLDS]
    unmasked = fault("unmasked", participant=NoMasks)
    assert verdicts(reconstruction(unmasked, SMALL, 0))[2] == CAUGHT
    # The noise is of the release, which a broken accountant could make too small.
    quiet = fault("quiet", next_release=lambda *a: replace(next_release(*a), noise_multiplier=0.0))
    assert verdicts(reconstruction(quiet, SMALL, 0))[1] == CAUGHT


@pytest.mark.parametrize("check", [record_level, user_level, influence, figure, *REPEATED])
def test_the_same_seed_gives_the_same_findings(check: Check) -> None:
    few = replace(SMALL, runs=8)
    first = check(System(), few, 3)
    torch.rand(1), np.random.rand(1)  # no generator but the audit's has a part in them
    assert check(System(), few, 3) == first
    if check in (record_level, user_level, *REPEATED):  # the others' few counts may agree
        assert check(System(), few, 4) != first


def test_the_same_seed_gives_the_same_masks() -> None:
    update = np.linspace(-1, 1, 50, dtype=np.float32)
    first = _masked(System(), update, 0, 0)
    assert np.array_equal(_masked(System(), update, 0, 0), first)
    assert not np.array_equal(_masked(System(), update, 0, 1), first)
    assert not np.array_equal(_masked(System(), update, 1, 0), first)


def test_the_plan_begins_with_the_sound_system_and_has_no_check_twice() -> None:
    steps = plan(quick=False, variant="all")
    assert len(set(steps)) == len(steps)
    names = [step.system.name for step in steps]
    sound = names.count(SOUND)
    assert names[:sound] == [SOUND] * sound
    assert list(dict.fromkeys(names[sound:])) == list(VARIANTS) == list(TELLING)
    checked = [step.check for step in steps[:sound]]
    assert set(checked) == {*itertools.chain(*TELLING.values()), *SOUND_ONLY}
    assert str(steps[0]) == "record level, sound"


def test_a_part_of_the_plan() -> None:
    def names(**options: Any) -> list[str]:
        return [str(step) for step in plan(**options)]

    everything = names(quick=False, variant="all")
    assert names(quick=False, variant="none") == [n for n in everything if n.endswith(SOUND)]
    assert names(quick=True, variant="both-shares") == [
        "both shares, sound", "both shares, both-shares",
    ]  # fmt: skip
    left_out = set(everything) - set(names(quick=True, variant="all"))
    assert left_out == {"user level, accountant-reset"}
    with pytest.raises(InputError, match=r"nonsense.*noise-off.*none"):
        plan(quick=True, variant="nonsense")


def test_sizes_of_both_scales_are_what_the_statistics_need() -> None:
    """At least 1,000 canaries at both levels, and runs that can pass ε = 1 in two worlds."""
    for scale in (QUICK, FULL):
        assert scale.canaries >= 1000
        assert user._honest(user._settings(scale).sum, user._settings(scale).rounds) >= 1000
        assert two_worlds_epsilon(0, 0, scale.runs, DELTA) > 2 * CLAIMED_EPSILON


def finding(verdict: str, words: str = "words") -> Finding:
    system = words if verdict in (CAUGHT, MISSED) else SOUND
    figures = {"epsilon_lower": 0.3, "epsilon_claimed": 1.0}
    return Finding(words, system, words, words, words, verdict, figures)


def report(*found: Finding) -> AuditReport:
    return AuditReport(0, True, ("x",), found, ("a thing",), 1.5)


@pytest.mark.parametrize(
    ("verdict", "code", "words"),
    [
        (HOLDS, 0, "No claim was refuted: 2 checks"),
        (CAUGHT, 0, "The variant was caught"),
        (SHOWN, 0, "No claim was refuted: 1 checks"),
        (BROKEN, 1, "FAILED: measurement refutes what Privity claims (door)"),
        (MISSED, 1, "BLIND: these broken variants were not noticed: door (door)"),
    ],
)
def test_one_bad_verdict_fails_the_audit_and_is_named(verdict: str, code: int, words: str) -> None:
    made = report(finding(HOLDS), finding(verdict, "door"))
    assert made.exit_code == code
    out = Console(width=200, file=StringIO(), record=True)
    show(made, out)
    shown = out.export_text()
    assert words in shown and verdict in shown
    assert "Left out by --quick: a thing." in shown
    assert words in " ".join(Page(render(made)).text.split())
    assert ("Audit failed." in render(made)) == bool(code)


def test_verdicts() -> None:
    assert [judged(SOUND, refuted=r) for r in (False, True)] == [HOLDS, BROKEN]
    assert [judged("noise-off", refuted=r) for r in (False, True)] == [MISSED, CAUGHT]


def test_the_page_is_repeatable_loads_nothing_and_shows_text_as_text() -> None:
    made = report(*(finding(verdict, ATTACK) for verdict in (HOLDS, BROKEN, CAUGHT, MISSED, SHOWN)))
    html = render(made)
    assert render(made) == html
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert all(load and load.startswith("#") for load in page.loads)
    assert page.text.count(ATTACK) >= 5 * 4
    assert "default-src 'none'" in html


def test_an_unknown_variant_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--variant", "nonsense"]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "nonsense" in shown.err and "noise-off" in shown.err
    assert shown.out == ""


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(TELLING, "both-shares", (lambda *_: pytest.fail("it began"),))
    (tmp_path / "file").write_text("keep")
    options = ["--variant", "both-shares", "--out", str(tmp_path / "file")]
    assert main(["audit", "--quick", *options]) == 2
    assert "another place" in capsys.readouterr().err


def test_the_command_prints_one_json_object_and_keeps_both_files(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ["--quick", "--json", "--variant", "both-shares", "--out", str(tmp_path / "new/out")]
    assert main(["audit", *options]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    told = json.loads(out)
    assert told["sound"] is True and told["missed"] == [] and told["variants"] == ["both-shares"]
    assert [f["verdict"] for f in told["findings"]] == [HOLDS, CAUGHT]
    again = run_audit(quick=True, variant="both-shares").to_dict()
    assert json.loads(json.dumps(again | {"seconds": 0})) == told | {"seconds": 0}
    assert json.loads((tmp_path / "new/out/audit.json").read_text()) == told
    assert "caught" in Page((tmp_path / "new/out/audit.html").read_text()).text


@pytest.mark.parametrize("variant", ["weak-mask-seed", "both-shares"])
def test_a_broken_secure_sum_is_caught_and_the_sound_one_holds(variant: str) -> None:
    watched: list[str] = []
    found = run_audit(quick=True, variant=variant, watch=watched.append)
    assert [(f.system, f.verdict) for f in found.findings] == [(SOUND, HOLDS), (variant, CAUGHT)]
    assert found.findings[1].figures["relative_error"] < 1e-4
    assert watched == [str(step) for step in plan(quick=True, variant=variant)]
    assert found.exit_code == 0


def test_an_audit_that_sees_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variant is the sound system under another name."""
    monkeypatch.setitem(VARIANTS, "both-shares", System("both-shares"))
    assert main(["audit", "--quick", "--variant", "both-shares"]) == 1


def test_a_product_that_is_broken_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The product is the broken variant."""
    broken = replace(VARIANTS["both-shares"], name=SOUND)
    monkeypatch.setattr(checks, "System", lambda task: replace(broken, task=task))
    assert main(["audit", "--quick", "--variant", "both-shares"]) == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.fixture(scope="module")
def quick() -> AuditReport:
    return run_audit(quick=True, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_every_check_catches_its_variant(quick: AuditReport, variant: str) -> None:
    found = [finding for finding in quick.findings if finding.system == variant]
    expected = {"noise-off": 3, "clipping-off": 2, "ledger-forgets": 2, "accountant-reset": 2}
    assert verdicts(found) == [CAUGHT] * expected.get(variant, 1)
    lower = [f.figures["epsilon_lower"] for f in found if "epsilon_lower" in f.figures]
    assert all(bound > CLAIMED_EPSILON for bound in lower)


@pytest.mark.long
def test_the_sound_system_holds_and_the_same_attacks_see_what_is_not_protected(
    quick: AuditReport,
) -> None:
    assert quick.exit_code == 0
    assert quick.left_out == ("accountant-reset at user level, which takes 25 rounds",)
    shown = {
        finding.check: finding.figures for finding in quick.findings if finding.verdict == SHOWN
    }
    personal = shown["membership inference, personal adapter"]
    # what nothing protects leaks more than the claim for the protected would allow
    allowed = math.exp(CLAIMED_EPSILON)
    assert personal["auc_low"] > allowed / (1 + allowed)
    assert personal["true_positive_rate_low"] > allowed * personal["false_positive_rate"]
    assert shown["membership inference, shared adapter without DP"]["auc_low"] > 0.5
    assert shown["exposure of secrets, personal adapter"]["bits_times_32"] > 13
    assert shown["reconstruction of one update, in the clear"]["right"] == QUICK.trials
