"""Flower's SecAgg+ as the peer: the functions of its own client mod, in a round set up by it."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulations.evidence.benchmarks.timing import Figures, seconds


class FlowerMember:
    """Flower's own client, with the defaults of its workflow, and `neighbours` others.

    The others share their secrets with it alone, which costs it what any graph does in which it
    has that many neighbours. Its path begins with `Parameters`, a serialised float32 array, and
    includes one copy out of it.
    """

    CLIPPING_RANGE, TARGET_RANGE, MOD_RANGE, MAX_WEIGHT = 8.0, 1 << 22, 1 << 32, 1000.0
    EXAMPLES = 40
    THRESHOLD = 2  # plays no part in masking

    def __init__(self, update: NDArray[np.float32], neighbours: int) -> None:
        from flwr.common import ndarrays_to_parameters

        self._update = update
        self._parameters = ndarrays_to_parameters([update])
        self._state, self._inbox = self._shared(neighbours)

    def _shared(self, neighbours: int) -> tuple[Any, Any]:
        """State and incoming message of the timed member, after the mod's first two stages."""
        from flwr.app import ConfigRecord
        from flwr.client.mod.secure_aggregation.secaggplus_mod import (
            SecAggPlusState,
            _setup,
            _share_keys,
        )
        from flwr.common.secure_aggregation.secaggplus_constants import Key

        timed = neighbours // 2  # some neighbours come before it, some after
        states = {member: SecAggPlusState(nid=member) for member in range(neighbours + 1)}
        keys: dict[int, Any] = {
            member: list(
                _setup(state, self._setup(neighbours + 1 if member == timed else 2)).values()
            )
            for member, state in states.items()
        }
        sources, sealed = [], []
        for member, state in states.items():
            seen = keys if member == timed else {who: keys[who] for who in (member, timed)}
            sent: Any = _share_keys(state, ConfigRecord({str(who): seen[who] for who in seen}))
            if member != timed:
                sources.append(member)
                sealed += sent[Key.CIPHERTEXT_LIST]
        inbox = ConfigRecord({Key.SOURCE_LIST: sources, Key.CIPHERTEXT_LIST: sealed})
        return states[timed], inbox

    def _setup(self, members: int) -> Any:
        from flwr.app import ConfigRecord
        from flwr.common.secure_aggregation.secaggplus_constants import Key

        return ConfigRecord(
            {
                Key.SAMPLE_NUMBER: members,
                Key.SHARE_NUMBER: members,  # it keeps one share itself
                Key.THRESHOLD: self.THRESHOLD,
                Key.CLIPPING_RANGE: self.CLIPPING_RANGE,
                Key.TARGET_RANGE: self.TARGET_RANGE,
                Key.MOD_RANGE: self.MOD_RANGE,
                Key.MAX_WEIGHT: self.MAX_WEIGHT,
            }
        )

    def masked(self) -> list[bytes]:
        """What the mod sends: the weight and the vector, each serialised."""
        from flwr.client.mod.secure_aggregation.secaggplus_mod import _collect_masked_vectors
        from flwr.common.secure_aggregation.secaggplus_constants import Key

        sent: Any = _collect_masked_vectors(
            self._state, self._inbox, self.EXAMPLES, self._parameters
        )
        arrays: list[bytes] = sent[Key.MASKED_PARAMETERS]
        return arrays

    def timed(self) -> Figures:
        """The mod's path; its first and last step are timed once more by themselves."""
        from flwr.common import bytes_to_ndarray, ndarray_to_bytes

        start = perf_counter()
        sent = self.masked()
        total_s = perf_counter() - start
        quantise_s = seconds(self.quantise)
        pack_s = seconds(ndarray_to_bytes, bytes_to_ndarray(sent[-1]))
        return {
            "quantise_s": quantise_s,
            "mask_s": total_s - quantise_s - pack_s,
            "pack_s": pack_s,
            "total_s": total_s,
            "upload_bytes": sum(map(len, sent)),
        }

    def quantise(self) -> list[NDArray[Any]]:
        """The mod's weighting and stochastic rounding."""
        from flwr.common.secure_aggregation.ndarrays_arithmetic import parameters_multiply
        from flwr.common.secure_aggregation.quantization import quantize as flower_quantize

        ratio = round(self.EXAMPLES / self.MAX_WEIGHT * self.TARGET_RANGE) / self.TARGET_RANGE
        weighted = parameters_multiply([self._update], ratio)
        return flower_quantize(weighted, self.CLIPPING_RANGE, self.TARGET_RANGE)
