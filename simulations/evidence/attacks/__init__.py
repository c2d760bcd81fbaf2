"""Attacks of a lying server, performed on Flower 1.41's own SecAgg+ and on `common.secagg`.

Each is run, not argued: against Flower's client mod and workflow as they are, and against
Privity's participants. Members that are broken on purpose (`on_privity/broken.py`) show that the
attacks on Privity can succeed. All updates are synthetic.
"""

from simulations.evidence.attacks.table import AttackRow, as_json, run_attacks, show

__all__ = ["AttackRow", "as_json", "run_attacks", "show"]
