"""The audit of devices that learn another task than chat: sound ones pass, broken ones do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.errors import InputError
from simulations.evidence.audit.checks import plan, run_audit
from simulations.evidence.audit.exact_record import exact_record
from simulations.evidence.audit.example_choice import choice
from simulations.evidence.audit.findings import CAUGHT, HOLDS, Finding
from simulations.evidence.audit.influence import influence
from simulations.evidence.audit.scale import QUICK
from simulations.evidence.audit.system import System
from simulations.evidence.audit.variants import VARIANTS

LABELLED = ("classify", "tag")


def verdicts(findings: list[Finding]) -> list[str]:
    return [finding.verdict for finding in findings]


@pytest.mark.parametrize("task", LABELLED)
def test_one_record_is_one_example_and_moves_no_other(task: str) -> None:
    assert verdicts(choice(System(task=task), QUICK, 0)) == [HOLDS]


@pytest.mark.parametrize("task", LABELLED)
def test_a_head_is_within_the_clip_and_a_looser_one_is_caught(task: str) -> None:
    assert verdicts(exact_record(System(task=task), QUICK, 0)) == [HOLDS]
    broken = replace(VARIANTS["clip-per-layer"], task=task)
    assert verdicts(exact_record(broken, QUICK, 0)) == [CAUGHT]


@pytest.mark.long
@pytest.mark.parametrize("task", LABELLED)
def test_a_personal_head_that_takes_part_is_caught(task: str) -> None:
    assert verdicts(influence(System(task=task), QUICK, 0)) == [HOLDS]
    assert verdicts(influence(replace(VARIANTS["personal-left-on"], task=task), QUICK, 0)) == [
        CAUGHT
    ]


def test_a_task_that_there_is_not_is_refused_before_anything_runs() -> None:
    with pytest.raises(InputError, match=r"There is no task 'tagg'\. "):
        run_audit(quick=True, task="tagg")
    assert {step.system.task for step in plan(quick=True, variant="all", task="tag")} == {"tag"}
