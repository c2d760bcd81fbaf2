"""How many holders each member needs, and how many of their shares: computed, not guessed.

Every member draws its k holders by itself once the roster is fixed, so a server cannot choose
them. It can abandon a round and have them drawn again: `MOST_DRAWS` times at most before the member
sends anything that they protect, which is what makes 2^-60 a round of the 2^-72 of each draw.
It does see the choices before it decides who drops out, whose signature arrives and whose shares
are passed on, so the bounds are union bounds over everything it could decide: the analysis of
Bell et al. 2020 (https://eprint.iacr.org/2020/704, sections 3 and 4) for one-sided choices, with
exact hypergeometric tails. Let g members collude, h = n - g be honest, s (`least`) sign, so that
at most d = n - s honest ones do not; let H(N, K, k) be the marked among k draws from N of whom K
are marked.

1. Both secrets of a member are obtained. Impossible while at most c of its holders collude, as
   2t > k + c: `h P[H(s-1, g, k) > c]`.
2. A sum over too few is learned. Let X be the x honest members in it, i of them signers.
   - Each masked towards t of its holders, and t gave its self mask away. These overlap in 2t - k,
     and whoever is in both and honest is in X: `C(h, x) P[H(s-1, x-1+g, k) >= 2t-k]^x`.
   - No signer in X chose a signer outside: `C(h, d) C(s-g, i) P[H(n-1, s-g-i, k) = 0]^i`.
   - The t holders whom each masked towards are signers in X, non-signers or colluders:
     `C(h, d) C(s-g, i) C(d, x-i) P[H(n-1, d+i-1+g, k) >= t]^x`.
   The first is used for every X up to a certain size, the smaller of the others for larger ones.
3. Somebody has fewer than t holders left when d members drop out at random:
   `n P[H(n-1, d, k) > k-t]`.

A roster may hold any m members, s <= m <= n, of whom each chooses min(k, m-1). Where a fixed number
is marked, the tail falls with m and is taken at m = s (or k + 1, where everybody holds for
everybody, whatever m below it); all else grows with m and is taken at m = n.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError

Logs = NDArray[np.float64]  # natural logarithms of probabilities, or of bounds on them
Counts = NDArray[np.int64]

PRIVACY_BITS = 60  # colluders expose a member with probability 2^-60 at most in a round
MOST_DRAWS = 2**12  # times that a member may choose holders before it sends one masked input
DRAW_BITS = PRIVACY_BITS + 12  # so much is asked of each choice

_LN2 = math.log(2)
_LEFT_OUT = 0.05  # of the honest signers: noise sized for the rest is 2.6 % larger
_MOST_MEMBERS = 2**17  # tables as long are made even for terms that a stranger proposes
_MOST_CELLS = 2**24  # terms of all the tails taken at once; beyond, they are bounded by 1
_SMALL = 512  # most members in an X that the first part of bound 2 is tried on
_SURELY = -200.0  # a bound as low (2^-288) needs no better one


@dataclass(frozen=True, slots=True)
class Graph:
    """Who must be there and how secrets are shared; the fields of `RoundTerms` of these names.

    Args:
        cohort: Most members of a roster (n).
        least: Fewest members of a roster, sharers, survivors and signers (s).
        corrupt: Most members of a roster that collude with the server (g).
        neighbours: Holders that each member chooses (k).
        threshold: Shares that rebuild a secret (t).
        colluders: Most colluding holders of one member against whom t protects (c).
    """

    cohort: int
    least: int
    corrupt: int
    neighbours: int
    threshold: int
    colluders: int


@lru_cache(maxsize=256)
def choose(
    cohort: int,
    *,
    corrupt: float,
    losses: float,
    privacy_bits: float = DRAW_BITS,
    failure_bits: float = 20,
) -> Graph:
    """The fewest holders that keep both promises, 2^-privacy_bits a draw of holders and
    2^-failure_bits a round.

    In a small cohort everybody holds for everybody. Of the thresholds that keep both promises the
    middle one is taken (the upper of two): a larger one protects against more colluders, a smaller
    one leaves more shares to spare when some are wrong.

    Args:
        cohort: Members n, at least 2.
        corrupt: Fraction of the cohort that may collude with the server, in [0, 1). Above 0 it
            stands for one member at least.
        losses: Fraction of the cohort that may drop out, in [0, 1). Fewer are tolerated where
            so many would leave too few to tell one list of survivors from another.
        privacy_bits: A graph that members draw fails to protect with probability 2^-privacy_bits
            at most.
        failure_bits: A round from which `losses` drop out at random, and no more, is abandoned
            with probability 2^-failure_bits at most.

    Raises:
        InputError: A value is out of range, or no graph over so many members is safe.
    """
    _check(cohort, corrupt, losses)
    colluding = max(1, _share(corrupt, cohort)) if corrupt else 0
    # 2s > n + g, and a threshold below s with 2t > k + c must exist if k = n - 1 and c = g.
    least = max(cohort - _share(losses, cohort), (cohort - 1 + colluding) // 2 + 2)
    if least > cohort:
        raise InputError(
            f"No graph protects {cohort} members of whom {colluding} may collude.",
            "Ask for a larger cohort or a smaller corrupt fraction.",
        )
    for k in range(1, cohort):
        graph = _with_holders(k, cohort, least, colluding, privacy_bits, failure_bits)
        if graph:
            return graph
    raise AssertionError("In a complete graph all three probabilities are 0.")


def privacy_failure(
    cohort: int, least: int, corrupt: int, neighbours: int, threshold: int, colluders: int
) -> float:
    """Base-2 logarithm of a bound on the probability that the graph fails to protect.

    It fails if more than `colluders` of an honest member's holders collude, or if a lying server
    can leave more than 5 % of the honest signers out of the sum. The worst size of the roster
    counts. -inf where it cannot fail; 0 where the bound says nothing, as for cohorts above 2^17.
    """
    if cohort > _MOST_MEMBERS:
        return 0.0
    c = min(colluders, 2 * threshold - neighbours - 1)
    split = _split(cohort, least, corrupt, neighbours, threshold)[_too_few(least, corrupt)]
    return _bits(float(np.logaddexp(_betrayed(cohort, least, corrupt, neighbours, c), split)))


def honest_in_sum(
    cohort: int,
    least: int,
    corrupt: int,
    neighbours: int,
    threshold: int,
    privacy_bits: float = DRAW_BITS,
) -> int:
    """Fewest honest members in any sum a server can learn, except for 2^-(privacy_bits + 1).

    least - corrupt where everybody holds for everybody. Otherwise a lying server may pass on
    nobody's shares to the holders of a member, and drop all who chose it: the member signs, but
    masks towards holders who do not know of it, so its input stays masked and out of the sum.
    Noise must be sized for the rest, which is what this counts. 0 where the bound says nothing.
    """
    if cohort > _MOST_MEMBERS:
        return 0
    split = _split(cohort, least, corrupt, neighbours, threshold)
    return int(np.searchsorted(split, -(privacy_bits + 1) * _LN2, side="right"))


def abort_chance(cohort: int, least: int, neighbours: int, threshold: int) -> float:
    """Base-2 logarithm of a bound on the probability that somebody has too few holders left.

    Exactly cohort - least members drop out, at random. -inf where all always have enough.
    """
    if cohort > _MOST_MEMBERS:
        return 0.0
    gone = _tails(cohort - 1, cohort - least, neighbours)
    return _bits(math.log(cohort) + gone[neighbours - threshold + 1])


def _check(cohort: int, corrupt: float, losses: float) -> None:
    if not 2 <= cohort <= _MOST_MEMBERS:
        raise InputError(f"A cohort of {cohort} is not in [2, {_MOST_MEMBERS}].")
    for name, value in (("corrupt", corrupt), ("losses", losses)):
        if not 0 <= value < 1:
            raise InputError(f"{name} {value} is not a fraction in [0, 1).")


def _share(fraction: float, cohort: int) -> int:
    return math.floor(fraction * cohort + 1e-9)  # 0.29 x 100 is 28.999...


def _too_few(least: int, corrupt: int) -> int:
    """The most honest signers in a sum who are too few."""
    return least - corrupt - _share(_LEFT_OUT, least - corrupt) - 1


def _with_holders(
    k: int, cohort: int, least: int, corrupt: int, privacy_bits: float, failure_bits: float
) -> Graph | None:
    """The graph with k holders, if a threshold keeps both promises."""
    limit = -(privacy_bits + 1) * _LN2

    def protects(t: int) -> bool:
        c = min(corrupt, 2 * t - k - 1)
        if _betrayed(cohort, least, corrupt, k, c) > limit:
            return False
        return bool(_split(cohort, least, corrupt, k, t)[_too_few(least, corrupt)] <= limit)

    highest = _highest_threshold(cohort, least, k, failure_bits)
    if not protects(highest):  # the larger the threshold, the better it protects
        return None
    lowest = bisect_left(range(highest + 1), True, lo=1, key=protects)
    t = (lowest + highest + 1) // 2
    return Graph(cohort, least, corrupt, k, t, min(corrupt, 2 * t - k - 1))


def _highest_threshold(cohort: int, least: int, k: int, failure_bits: float) -> int:
    """The largest t with which a round survives (bound 3); 0 if none does."""
    chances = math.log(cohort) + _tails(cohort - 1, cohort - least, k)
    too_many = int(np.argmax(chances <= -failure_bits * _LN2))  # holders, who are never gone
    return min(k - too_many + 1, least - 1)


def _betrayed(cohort: int, least: int, corrupt: int, k: int, c: int) -> float:
    """Bound 1: more than c holders of an honest member collude."""
    if c < 0:
        return 0.0
    return math.log(cohort - corrupt) + float(_tails(max(least - 1, k), corrupt, k)[c + 1])


@lru_cache(maxsize=16)
def _split(cohort: int, least: int, corrupt: int, k: int, t: int) -> Logs:
    """Bound 2: element i is for sums over i honest signers or fewer, i < least - corrupt."""
    apart = _apart(cohort, least, corrupt, k)
    few = np.arange(1 + int(np.argmax(np.append(apart[1:], -np.inf) < _SURELY)))
    near = _near(cohort, least, corrupt, k, t, few)
    small = _small(cohort, least, corrupt, k, 2 * t - k)
    best = np.zeros_like(apart)
    for size in {0, *(2**power for power in range(len(small).bit_length() - 1)), len(small) - 1}:
        each = apart.copy()
        each[few] = np.minimum(each[few], near(size + 1))
        total = np.logaddexp(np.logaddexp.accumulate(each), small[size])
        best = np.minimum(best, total)
    return best


def _small(cohort: int, least: int, corrupt: int, k: int, overlap: int) -> Logs:
    """The first part of bound 2: element x is for every X of x members or fewer."""
    honest = cohort - corrupt
    x = np.arange(1, min(_SMALL, honest) + 1)
    others = max(least - 1, k)
    marked = np.minimum(x - 1 + corrupt, others)
    each = _log_choose(honest, x) + x * _tail(others, marked, k, overlap)
    return np.logaddexp.accumulate(np.append(-np.inf, each))


def _apart(cohort: int, least: int, corrupt: int, k: int) -> Logs:
    """The second part of bound 2: element i is for i signers who choose no other signer."""
    signers = least - corrupt
    i = np.arange(1, signers)
    none = _log_choose(cohort - 1 - (signers - i), k) - _log_choose(cohort - 1, k)
    sets = _log_choose(cohort - corrupt, cohort - least) + _log_choose(signers, i)
    return np.append(0.0, sets + i * none)  # without a signer in X it says nothing


def _near(
    cohort: int, least: int, corrupt: int, k: int, t: int, i: Counts
) -> Callable[[int], Logs]:
    """The third part of bound 2, as a function of the fewest members in X, for each i."""
    silent = cohort - least
    tail = _tail(cohort - 1, np.clip(silent + i - 1 + corrupt, 0, cohort - 1), k, t)
    sets = _log_choose(cohort - corrupt, silent) + _log_choose(least - corrupt, i)

    def bound(fewest: int) -> Logs:
        # The sum over e >= f of C(d, e) p^e is at most C(d, f) p^f (1 + p)^(d - f).
        f = np.maximum(fewest - i, 0)
        power = np.where(i + f > 0, (i + f) * tail, 0.0)
        rest = np.maximum(silent - f, 0) * np.log1p(np.exp(tail))
        return np.asarray(sets + _log_choose(silent, f) + power + rest)

    return bound


def _tails(total: int, marked: int, drawn: int) -> Logs:
    """log P[H(total, marked, drawn) >= j], for j from 0 to drawn + 1."""
    terms = _log_hypergeometric(total, np.array([marked]), drawn, 0)[0]
    return np.append(np.logaddexp.accumulate(terms[::-1])[::-1], -np.inf)


def _tail(total: int, marked: Counts, drawn: int, at_least: int) -> Logs:
    """log P[H(total, marked, drawn) >= at_least] for each number of marked ones: [marked]."""
    if at_least <= 0 or len(marked) * (drawn - at_least + 1) > _MOST_CELLS:
        return np.zeros(len(marked))
    terms = _log_hypergeometric(total, marked, drawn, at_least)
    return np.asarray(np.logaddexp.reduce(terms, axis=1, initial=-np.inf))


def _log_hypergeometric(total: int, marked: Counts, drawn: int, at_least: int) -> Logs:
    """log P[H = j] for each number of marked ones and each j >= at_least: [marked, j]."""
    j = np.arange(at_least, drawn + 1)
    of_marked = _log_choose(marked[:, None], j)
    return of_marked + _log_choose(total - marked[:, None], drawn - j) - _log_choose(total, drawn)


def _log_choose(n: int | Counts, k: int | Counts) -> Logs:
    """log of the binomial coefficient for n >= 0, elementwise; -inf where k is not in [0, n]."""
    table = _log_factorials()
    return np.asarray(table[n] - table[k] - table[np.subtract(n, k)])


@lru_cache(maxsize=1)
def _log_factorials() -> Logs:
    """Log factorials of 0 to 2^17, then as many infinities, which negative indices reach."""
    logs = np.cumsum(np.log(np.arange(1, _MOST_MEMBERS + 1)))
    return np.concatenate([[0.0], logs, np.full(_MOST_MEMBERS, np.inf)])


def _bits(log: float) -> float:
    return min(log / _LN2, 0.0)
