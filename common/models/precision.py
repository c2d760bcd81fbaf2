"""Whether this processor computes in bfloat16 slower than in float32, measured.

Processors without instructions for it convert each number, and a run takes a multiple of the time.
"""

from __future__ import annotations

import time

from common.console.say import say_aside
from common.models.compute import chosen_device

SLOWER = 1.5  # times; less is within what such a short measurement can tell
ROWS, WIDTH = 128, 256
REPEATS = 3  # the best counts


def warn_if_slow(dtype: str, device: str) -> None:
    """One sentence with both times where bfloat16 was asked for and costs more than float32.

    Args:
        device: As in the settings. Only processors are measured, in a few milliseconds.
    """
    if dtype != "bfloat16" or chosen_device(device) != "cpu":
        return
    plain_ms, half_ms = product_ms("float32"), product_ms("bfloat16")
    if half_ms > SLOWER * plain_ms:
        say_aside(
            f"This processor is slower with --dtype bfloat16 than with float32: a small matrix"
            f" product takes {half_ms:.2g} ms instead of {plain_ms:.2g} ms."
        )


def product_ms(dtype: str) -> float:
    """The best time of a small matrix product in this precision, in milliseconds."""
    import torch

    left = torch.ones(ROWS, WIDTH, dtype=getattr(torch, dtype))
    right = torch.ones(WIDTH, WIDTH, dtype=left.dtype)
    left @ right  # the first one also makes room
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - begin)
    return 1000 * min(times)
