"""The attacks on Flower 1.41's SecAgg+, its client mod and workflow as they are."""

from simulations.evidence.attacks.on_flower import (
    cohorts,
    faults,
    keys,
    leaks,
    models,
    seeds,
    shares,
)

__all__ = ["cohorts", "faults", "keys", "leaks", "models", "seeds", "shares"]
