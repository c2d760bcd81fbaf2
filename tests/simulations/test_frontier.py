"""The frontier: runs for each seed and ε, continued where it stopped, and its figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_up_people import write_people

from common.errors import InputError
from simulations.cli import main
from simulations.evidence.frontier import figure, parse_levels, parse_seeds, summary
from simulations.report.report import paired_interval


def person(base: float, shared: float) -> dict[str, dict[str, float]]:
    arms = {"base": base, "shared": shared, "personal": shared, "local": base}
    return {arm: {"perplexity": value} for arm, value in arms.items()}


def test_levels_and_seeds_are_read_or_refused() -> None:
    assert parse_levels("1, 8,none") == [1.0, 8.0, None]
    assert parse_seeds("0,2") == [0, 2]
    for text in ("1,lots", ""):
        with pytest.raises(InputError, match="epsilons"):
            parse_levels(text)
    with pytest.raises(InputError, match="seeds"):
        parse_seeds("0.5")


def test_the_paired_interval_is_students() -> None:
    """Differences −1, −2, −3: mean −2, standard error 1/√3, t(0.975, 2) = 4.302653."""
    people = [person(10, 9), person(20, 18), person(30, 27)]
    low, high = paired_interval(people, "shared", "base", "perplexity") or [0, 0]
    assert low == pytest.approx(-2 - 4.302653 / 3**0.5, abs=1e-5)
    assert high == pytest.approx(-2 + 4.302653 / 3**0.5, abs=1e-5)
    assert paired_interval(people[:1], "shared", "base", "perplexity") is None


def test_the_summary_pools_the_people_of_all_seeds() -> None:
    first = {"seed": 0, "rounds_log": [], "per_user": [person(10, 9), person(20, 18)]}
    second = {"seed": 1, "rounds_log": [], "per_user": [person(30, 27)]}
    (row,) = summary({8.0: [first, second]}, "perplexity")["rows"]
    assert row["people"] == 3
    assert row["metrics"]["shared"]["perplexity"] == 18.0
    drawn = figure(summary({8.0: [first], None: [second]}, "perplexity"))
    assert drawn.startswith("<?xml")
    assert figure(summary({8.0: [first], None: [second]}, "perplexity")) == drawn


def test_a_frontier_continues_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_people(tmp_path / "people", 4), tmp_path / "frontier"
    command = ["frontier", "--data", str(data), "--model", "tiny", "--examples", "8"]
    command += ["--rounds", "1", "--personal-epochs", "0", "--users", "0", "--out", str(out)]
    command += ["--seeds", "0", "--quiet"]
    assert main([*command, "--epsilons", "8"]) == 0
    before = (out / "seed-0/epsilon-8/report.json").stat().st_mtime_ns
    assert main([*command, "--epsilons", "8,none"]) == 0
    assert (out / "seed-0/epsilon-8/report.json").stat().st_mtime_ns == before
    found = json.loads((out / "frontier.json").read_text())
    assert [row["epsilon"] for row in found["rows"]] == [8.0, None]
    assert (out / "frontier.svg").exists()


def test_a_user_level_frontier_trains_alike_at_every_level(tmp_path: Path) -> None:
    data, out = write_people(tmp_path / "people", 10), tmp_path / "frontier"
    command = ["frontier", "--data", str(data), "--model", "tiny", "--examples", "8"]
    command += ["--rounds", "1", "--personal-epochs", "0", "--users", "0", "--out", str(out)]
    command += ["--seeds", "0", "--quiet", "--guarantee", "user", "--epsilons", "8,none"]
    assert main(command) == 0
    stored = [
        json.loads((out / f"seed-0/epsilon-{level}/settings.json").read_text())
        for level in ("8", "none")
    ]
    differing = {key for key in stored[0] if stored[0][key] != stored[1][key]}
    assert differing == {"user_epsilon", "out"}
    found = json.loads((out / "frontier.json").read_text())
    assert found["guarantee"] == "user"
    assert found["rows"][0]["intervals_of_all"]["perplexity"] == found["rows"][0]["intervals"]


def test_a_point_where_nothing_was_learnt_is_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwilling(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr("client.federation.participation.confirm", unwilling)
    data, out = write_people(tmp_path / "people", 3), tmp_path / "frontier"
    command = ["frontier", "--data", str(data), "--model", "tiny", "--users", "0", "--rounds", "1"]
    command += ["--examples", "8", "--personal-epochs", "0", "--seeds", "0", "--epsilons", "8"]
    assert main([*command, "--out", str(out), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "Seed 0, ε = 8: The one round was abandoned: " in said
    assert "Nothing was learnt together." in said
    assert (out / "frontier.json").exists()
