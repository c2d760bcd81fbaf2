"""An audit that can fail: attacks on the product's own code, measured against what it claims.

Canaries, membership inference, secrets said back and reconstruction on `--model tiny`, against both
differential-privacy guarantees and the secure sum. Systems that are broken on purpose
(`variants.py`) show that the audit would notice: it must catch each by measurement.
"""

from simulations.evidence.audit.checks import ALL, NONE, run_audit
from simulations.evidence.audit.command import audit
from simulations.evidence.audit.findings import AuditReport, Finding
from simulations.evidence.audit.on_page import write
from simulations.evidence.audit.on_terminal import show
from simulations.evidence.audit.variants import VARIANTS

__all__ = [
    "ALL",
    "NONE",
    "VARIANTS",
    "AuditReport",
    "Finding",
    "audit",
    "run_audit",
    "show",
    "write",
]
