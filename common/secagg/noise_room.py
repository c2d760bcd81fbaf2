"""How much of the modulus the noise of a cohort needs, and how fine a grid fits beside it.

A discrete Gaussian is sub-Gaussian with its own parameter and sums add their squares (Canonne,
Kamath and Steinke 2020, https://arxiv.org/abs/2004.00010, section 2.2), so with
sigma = noise * sqrt(cohort): P(some coordinate > x) <= 2 d exp(-x^2 / (2 sigma^2)).
"""

import math

from common.errors import InputError

LEAST_NOISE, MOST_NOISE = 2.0, 2.0**26  # in levels; the latter is the most that can be drawn
WRAP_BITS = 40  # some coordinate of a round's sum wraps with probability at most 2^-40


def wrap_margin(noise: float, cohort: int, dimension: int) -> int:
    """What the noise of a whole cohort stays within, in levels, but for 2^-40 a round.

    Args:
        noise: Standard deviation of one member's share, in levels.
        cohort: Members whose shares add up.
        dimension: Coordinates, none of which may exceed it.
    """
    return math.ceil(noise * _deviations(cohort, dimension))


def levels_with_noise(cohort: int, bits: int, dimension: int, share_per_level: float) -> int:
    """The most levels L with which the sum and its noise do not wrap, and the noise can be drawn.

    Args:
        cohort: Most members of the sum.
        bits: Modulus bits.
        dimension: Coordinates of the sum.
        share_per_level: Each member adds noise of standard deviation share_per_level * L.

    Raises:
        InputError: Not even one level fits.
    """
    half: int = 2 ** (bits - 1) - 1

    def fits(levels: int) -> bool:
        noise = share_per_level * levels
        return (
            noise <= MOST_NOISE and cohort * levels + wrap_margin(noise, cohort, dimension) <= half
        )

    per_level = cohort + share_per_level * _deviations(cohort, dimension)
    drawn = MOST_NOISE / share_per_level if share_per_level else math.inf
    levels = int(min(half / per_level, drawn)) + 1
    while levels > 0 and not fits(levels):
        levels -= 1
    if levels < 1:
        raise InputError(
            f"{cohort} members with noise of {share_per_level:g} a level do not fit {bits} bits.",
            "Use a larger modulus or a smaller cohort.",
        )
    return levels


def _deviations(cohort: int, dimension: int) -> float:
    return math.sqrt(cohort) * math.sqrt(2 * math.log(2 * dimension * 2.0**WRAP_BITS))
