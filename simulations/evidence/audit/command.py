"""`privity-sim audit`: run it, show or print it, and keep it where asked."""

from __future__ import annotations

from pathlib import Path

from common.system import strict_json
from simulations.evidence.audit.checks import plan, run_audit
from simulations.evidence.audit.on_page import write
from simulations.evidence.audit.on_terminal import progress, show


def audit(*, quick: bool, variant: str, task: str, seed: int, as_json: bool, out: str) -> int:
    """Run an audit.

    Args:
        as_json: One JSON object on stdout in place of the tables.
        out: Folder for `audit.json` and `audit.html`; none when empty.

    Returns:
        The exit code: 1 when a claim of the sound system was refuted or a variant not noticed.

    Raises:
        InputError: There is no such variant, or no such task.
    """
    import torch

    torch.set_num_threads(1)  # the tiny model's tensors are not worth a second one
    steps = plan(quick=quick, variant=variant, task=task)
    if out:
        Path(out).mkdir(parents=True, exist_ok=True)  # a place that cannot be used is said now
    with progress(len(steps)) as watch:
        report = run_audit(quick=quick, variant=variant, task=task, seed=seed, watch=watch)
    if as_json:
        print(strict_json.encode(report.to_dict()))  # noqa: T201
    else:
        show(report)
    if out:
        write(report, Path(out))
    return report.exit_code
