"""A whole run with the user-level guarantee: what is summed, how noisy it is, what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_people import Runner, write_people
from other_steps import with_steps
from scipy import stats

from client.federation import contribution, steps
from common.secagg.quantize import from_ring

MANY = ("--no-dp", "--rank", "8", "--modules", "q_proj,k_proj,v_proj,o_proj,up_proj,down_proj")
SIMPLE = ("--optimizer", "sgd", "--local-steps", "1", "--learning-rate", "1", "--sample-rate", "1")
OPTIONS = (*MANY, *SIMPLE, "--personal-epochs", "0", "--user-epsilon", "8")


class Watched:
    """Exact integers of every member before noise, and every unmasked sum."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import server.round.one_round

        self.exact: list[np.ndarray] = []  # type: ignore[type-arg]
        self.sums: list[np.ndarray] = []  # type: ignore[type-arg]
        self.terms: list[Any] = []
        integers, quantised = contribution.summand, steps.SOUND.quantize_towards_zero

        def watched(device: Any, settings: Any, terms: Any, *vectors: Any) -> Any:
            self.terms.append(terms)
            return integers(device, settings, terms, *vectors)

        def towards_zero(*arguments: Any) -> Any:
            self.exact.append(quantised(*arguments))
            return self.exact[-1]

        def unmasked(total: Any, bits: int) -> Any:
            self.sums.append(from_ring(total, bits))
            return self.sums[-1]

        monkeypatch.setattr(contribution, "summand", watched)
        with_steps(monkeypatch, quantize_towards_zero=towards_zero)
        monkeypatch.setattr(server.round.one_round, "from_ring", unmasked)


def test_the_noise_of_the_sum_is_what_theory_says(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums of rounds minus the exact integers: moments within 5 standard errors, and a KS test.

    All ten members' shares are in the sum, so σ² is ten times a share's, more than what is claimed
    for the honest part of the smallest admissible sum.
    """
    data = write_people(tmp_path / "ten", 10)
    watched = Watched(monkeypatch)
    report = run(data, "run", *OPTIONS, "--rounds", "3")
    assert [entry["status"] for entry in report["rounds_log"]] == ["done"] * 3
    noise, sigma = [], []
    for index, total in enumerate(watched.sums):
        members = slice(10 * index, 10 * index + 10)
        assert all(np.linalg.norm(x) <= watched.terms[0].levels for x in watched.exact[members])
        noise.append(total - sum(x.astype(np.int64) for x in watched.exact[members]))
        sigma.append(watched.terms[10 * index].noise * 10**0.5)
    standard = np.concatenate([n / s for n, s in zip(noise, sigma, strict=True)])
    size = standard.size
    assert size > 4000
    assert abs(standard.mean()) < 5 / size**0.5
    assert abs(standard.var() - 1) < 5 * (2 / size) ** 0.5
    assert abs(stats.kurtosis(standard)) < 5 * (24 / size) ** 0.5
    assert stats.kstest(standard, "norm").pvalue > 1e-3
    assert min(sigma) / watched.terms[0].levels > report["privacy"]["user"]["noise_multiplier"]


def test_both_guarantees_are_reported_apart(run: Runner, tmp_path: Path) -> None:
    data = write_people(tmp_path / "ten", 10)
    user = run(data, "user", *OPTIONS)
    assert user["privacy"]["record"] is None
    spent = user["privacy"]["user"]
    assert 7.5 < spent["epsilon"] <= 8.0
    assert spent["delta"] == 1e-5
    assert all(person["user_epsilon"] <= 8.0 for person in user["per_user"])
    assert all(person["epsilon"] is None for person in user["per_user"])
    both = run(data, "both", "--user-epsilon", "4", "--epsilon", "2")
    assert both["privacy"]["record"]["epsilon"] <= 2.0
    assert both["privacy"]["user"]["epsilon"] <= 4.0
    neither = run(data, "neither", *MANY)
    assert neither["privacy"] == {"record": None, "user": None}


def test_a_person_whose_budget_is_spent_stops_taking_part(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that plans less noise than the budget allows finds nobody to answer."""
    import server.round.setup

    monkeypatch.setattr(server.round.setup, "plan_noise", lambda *_: 0.5)
    data = write_people(tmp_path / "ten", 10)
    report = run(data, "run", *OPTIONS, exit_code=1)
    assert [entry["status"] for entry in report["rounds_log"]] == ["abandoned"] * 2
    assert "BudgetExceededError" in caplog.text
    assert report["privacy"]["user"]["epsilon"] == 0.0
    assert report["metrics"]["personal"]["nll"] > 0  # everything else goes on
