"""ε and the DP-SGD step against independent oracles."""

from __future__ import annotations

import copy
import os
from itertools import product

import pytest
import torch
from torch import nn

from client.federation.budget import next_release
from common.errors import BudgetExceededError, PrivityError
from common.privacy.accountant import Release, calibrate, epsilon
from common.privacy.dp_sgd import DPSettings, plain_steps, private_steps
from common.privacy.planning import planned_rounds
from common.privacy.randomness import Random
from common.privacy.releases import count
from common.settings import Settings
from simulations.devices import SeededRandomness

DELTA = 1e-5


def dp_accounting_epsilon(events: list[Release], delta: float) -> float:
    """The same events by Google's PLD accountant."""
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant()
    for event in events:
        gaussian = dp_event.GaussianDpEvent(event.noise_multiplier)
        sampled = dp_event.PoissonSampledDpEvent(event.sample_rate, gaussian)
        accountant.compose(sampled if event.sample_rate < 1 else gaussian, event.steps)
    return float(accountant.get_epsilon(delta))


def charged(release: Release) -> list[Release]:
    """A round's training and the count that goes with it."""
    return [release, count(release.noise_multiplier)]


@pytest.mark.parametrize(
    "events",
    [
        [Release(1.5, 1.0, 6)],
        [Release(1.0, 0.5, 6)],
        [Release(4.0, 0.1, 50)],
        [Release(1.2, 0.25, 4), Release(2.0, 0.5, 3), Release(1.2, 0.25, 4)],
        [Release(9.0, 1.0, 6)],
    ],
)
def test_epsilon_agrees_with_dp_accounting(events: list[Release]) -> None:
    ours, theirs = epsilon(events, DELTA), dp_accounting_epsilon(events, DELTA)
    assert abs(ours - theirs) <= max(0.01 * theirs, 0.03)


@pytest.mark.parametrize(("target", "rate"), [(8.0, 1.0), (1.0, 1.0), (8.0, 0.5), (2.0, 0.1)])
def test_calibration_meets_the_target_and_wastes_little(target: float, rate: float) -> None:
    sigma = calibrate([], [Release(1.0, rate, 6)], target=target, delta=DELTA)
    spent = dp_accounting_epsilon([Release(sigma, rate, 6)], DELTA)
    assert spent <= target + max(0.01 * target, 0.03)
    assert dp_accounting_epsilon([Release(0.98 * sigma, rate, 6)], DELTA) > target


@pytest.mark.parametrize(("target", "rate"), [(8.0, 1.0), (2.0, 0.25)])
def test_the_renyi_accountant_states_more_and_asks_for_more_noise(
    target: float, rate: float
) -> None:
    """Both are bounds on the same ε; what either calibrates keeps the truth below the target."""
    events = [Release(1.5, rate, 6), Release(2.0, rate, 2)]
    assert dp_accounting_epsilon(events, DELTA) < epsilon(events, DELTA, "rdp")
    assert epsilon(events, DELTA) < epsilon(events, DELTA, "rdp")
    sigmas = {
        name: calibrate([], [Release(1.0, rate, 6)], target=target, delta=DELTA, accountant=name)
        for name in ("prv", "rdp")
    }
    assert sigmas["prv"] < sigmas["rdp"]
    assert epsilon([Release(sigmas["rdp"], rate, 6)], DELTA, "rdp") <= target
    settings = Settings.of(users=5, rounds=3, epsilon=target, sample_rate=rate, accountant="rdp")
    ledger: list[Release] = []
    for number in (1, 2, 3):
        ledger += charged(next_release(ledger, settings, number))
    assert 0.9 * target < epsilon(ledger, DELTA, "rdp") <= target


def test_calibration_counts_what_was_spent() -> None:
    past = [Release(2.0, 1.0, 2)]
    planned = [Release(1.0, 1.0, 4)]
    fresh = calibrate([], planned, target=8.0, delta=DELTA)
    after = calibrate(past, planned, target=8.0, delta=DELTA)
    assert after > fresh
    assert dp_accounting_epsilon([*past, Release(after, 1.0, 4)], DELTA) <= 8.08


def test_a_spent_budget_is_refused() -> None:
    past = [Release(1.0, 1.0, 6)]
    assert epsilon(past, DELTA) > 8.0
    with pytest.raises(BudgetExceededError, match=r"is spent"):
        calibrate(past, [Release(1.0, 1.0, 1)], target=8.0, delta=DELTA)


def test_a_sampled_device_plans_for_more_rounds_than_it_expects() -> None:
    settings = Settings.of(users=100, cohort=10, rounds=50)
    assert 6 < planned_rounds(settings.rounds, 1) < 15
    assert planned_rounds(settings.rounds, 50) == 1
    assert planned_rounds(Settings.of(users=8, rounds=6).rounds, 1) == 6


class Toy(nn.Module):
    """A frozen trunk and one trained layer over sequences, like an adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(3, 4)
        self.trained = nn.Linear(4, 2, bias=False)
        self.trunk.requires_grad_(False)

    def loss_sum(self, batch: list[torch.Tensor]) -> torch.Tensor:
        """Sum over examples of the mean squared output over the example's positions."""
        return sum((self.trained(self.trunk(x)[None]) ** 2).mean() for x in batch)  # type: ignore[return-value]


def batched(examples: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    return [examples[i : i + 2] for i in range(0, len(examples), 2)]


def stacked_loss(toy: Toy, batch: list[torch.Tensor]) -> torch.Tensor:
    return (toy.trained(toy.trunk(torch.stack(batch))) ** 2).mean(dim=(1, 2)).sum()


def data(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(5, 3, generator=generator) * (i + 1) for i in range(count)]


def stream(number: int) -> Random:
    return SeededRandomness(0, number).stream("noise")


@pytest.mark.parametrize("clip", [0.05, 1.0, 1e6])
def test_a_private_step_without_noise_is_the_clipped_micro_batch_sum(clip: float) -> None:
    torch.manual_seed(0)
    toy = Toy()
    examples = data(7)
    oracle = copy.deepcopy(toy)
    total = torch.zeros_like(oracle.trained.weight)
    for example in examples:  # one example at a time: plain autograd
        (gradient,) = torch.autograd.grad(oracle.loss_sum([example]), [oracle.trained.weight])
        total += gradient * min(1.0, clip / float(gradient.norm()))
    wanted = oracle.trained.weight - 0.5 * total / 7
    toy.trained.train()
    optimizer = torch.optim.SGD(toy.trained.parameters(), lr=0.5)
    settings = DPSettings(0.0, clip, 1.0, 1, 7)
    private_steps(
        nn.ModuleList([toy.trained]), optimizer, examples, batched,
        lambda batch: stacked_loss(toy, batch), settings, stream(1),
    )  # fmt: skip
    assert torch.allclose(toy.trained.weight, wanted, rtol=1e-4, atol=1e-7)


def test_noise_has_the_stated_size_even_on_an_empty_batch() -> None:
    """200 steps of noise on 8 coordinates: the variance of 1,600 draws is within 5 σ of theory."""
    toy = Toy()
    toy.trained.train()
    toy.trained.weight.data.zero_()
    optimizer = torch.optim.SGD(toy.trained.parameters(), lr=1.0)
    settings = DPSettings(2.0, 0.5, 1e-12, 200, 4.0)  # no example is ever drawn
    before, seen = toy.trained.weight.detach().clone(), []
    real = optimizer.step

    def watched(*arguments: object, **named: object) -> None:
        real(*arguments, **named)  # type: ignore[arg-type]
        seen.append(toy.trained.weight.detach() - before - sum(seen))

    optimizer.step = watched  # type: ignore[method-assign]
    private_steps(
        nn.ModuleList([toy.trained]), optimizer, data(1), batched,
        lambda batch: stacked_loss(toy, batch), settings, stream(1),
    )  # fmt: skip
    draws = torch.stack(seen).flatten()
    theory = (2.0 * 0.5 / 4.0) ** 2
    assert len(draws) == 1600
    assert abs(float(draws.var()) / theory - 1) < 5 * (2 / 1600) ** 0.5
    assert abs(float(draws.mean())) < 5 * (theory / 1600) ** 0.5


def noisy_weights(random: Random) -> torch.Tensor:
    """The toy's weights after two steps from the same start, half of the examples in each."""
    toy = Toy()
    toy.load_state_dict({name: torch.ones_like(w) for name, w in toy.state_dict().items()})
    toy.trained.train()
    optimizer = torch.optim.SGD(toy.trained.parameters(), lr=1.0)
    private_steps(
        nn.ModuleList([toy.trained]), optimizer, data(6), batched,
        lambda batch: stacked_loss(toy, batch), DPSettings(1.0, 1.0, 0.5, 2, 3), random,
    )  # fmt: skip
    return toy.trained.weight.detach()


def test_only_the_bytes_decide_noise_and_batches_and_torch_has_no_part() -> None:
    torch.manual_seed(1)
    first = noisy_weights(stream(1))
    torch.manual_seed(2)
    assert torch.equal(noisy_weights(stream(1)), first)
    assert not torch.equal(noisy_weights(stream(2)), first)
    assert not torch.equal(noisy_weights(os.urandom), noisy_weights(os.urandom))


def test_no_two_rounds_or_devices_share_their_noise() -> None:
    streams = [
        SeededRandomness(seed, user).stream(f"run/{number}/{attempt}/noise")
        for seed, user, number, attempt in product((0, 1), (1, 2), (1, 2), (0, 1))
    ]
    weights = {tuple(noisy_weights(random).flatten().tolist()) for random in streams}
    assert len(weights) == len(streams)


def test_a_gradient_that_is_not_finite_counts_as_nothing() -> None:
    """Clipping would turn it into NaN, which shows in the update however much noise there is."""
    toy = Toy()
    toy.trained.train()
    examples = [*data(2), torch.full((5, 3), 1e30)]
    optimizer = torch.optim.SGD(toy.trained.parameters(), lr=1.0)
    private_steps(
        nn.ModuleList([toy.trained]), optimizer, examples, lambda chosen: [[x] for x in chosen],
        lambda batch: stacked_loss(toy, batch), DPSettings(1.0, 1.0, 1.0, 1, 3),
        stream(1),
    )  # fmt: skip
    assert torch.isfinite(toy.trained.weight).all()


def test_a_model_that_flattens_its_sequences_is_refused() -> None:
    """Then a gradient belongs to a token, and clipping each bounds no example."""
    toy = Toy()
    toy.trained.train()
    optimizer = torch.optim.SGD(toy.trained.parameters(), lr=1.0)

    def flattened(batch: list[torch.Tensor]) -> torch.Tensor:
        return (toy.trained(toy.trunk(torch.cat(batch))) ** 2).sum()

    with pytest.raises(PrivityError, match="clipping would bound nothing"):
        private_steps(
            nn.ModuleList([toy.trained]), optimizer, data(4), batched, flattened,
            DPSettings(1.0, 1.0, 1.0, 1, 4), stream(1),
        )  # fmt: skip


def test_poisson_batches_have_the_stated_rate() -> None:
    """400 steps over 50 examples at q = 0.3: mean 15, its standard error 0.16."""
    toy = Toy()
    toy.trained.train()
    sizes: list[int] = []

    def counted(examples: list[torch.Tensor]) -> list[list[torch.Tensor]]:
        sizes.append(len(examples))
        return batched(examples)

    optimizer = torch.optim.SGD(toy.trained.parameters(), lr=1.0)
    settings = DPSettings(1.0, 1.0, 0.3, 400, 15.0)
    private_steps(
        nn.ModuleList([toy.trained]), optimizer, data(50), counted,
        lambda batch: stacked_loss(toy, batch), settings, stream(1),
    )  # fmt: skip
    mean = sum(sizes) / len(sizes)
    assert abs(mean - 15) < 5 * (50 * 0.3 * 0.7 / 400) ** 0.5
    assert len(set(sizes)) > 5


def test_plain_steps_are_the_mean_gradient() -> None:
    torch.manual_seed(0)
    toy = Toy()
    oracle = copy.deepcopy(toy)
    examples = data(6)
    loss = stacked_loss(oracle, examples) / 6
    (gradient,) = torch.autograd.grad(loss, [oracle.trained.weight])
    optimizer = torch.optim.SGD(toy.trained.parameters(), lr=0.1)
    plain_steps(optimizer, [examples], batched, lambda batch: stacked_loss(toy, batch))
    wanted = oracle.trained.weight - 0.1 * gradient
    assert torch.allclose(toy.trained.weight, wanted, rtol=1e-4, atol=1e-7)
