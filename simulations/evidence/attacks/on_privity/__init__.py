"""The same attacks on `common.secagg`, and broken members on which they succeed."""

from simulations.evidence.attacks.on_privity import (
    cohorts,
    faults,
    keys,
    leaks,
    models,
    seeds,
    shares,
)

__all__ = ["cohorts", "faults", "keys", "leaks", "models", "seeds", "shares"]
