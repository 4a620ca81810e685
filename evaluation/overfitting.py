"""Is the result better than luck, given how many times we tried?

Every Sharpe ratio here is PER PERIOD (never annualised) and every kurtosis is RAW (normal = 3): an
annualised ratio with a daily n, or excess kurtosis, gives confident nonsense.
"""

from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import e, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from core.errors import DataError

Matrix = npt.NDArray[np.float64]
_NORMAL = NormalDist()
_EULER_GAMMA = 0.5772156649015329
_CHUNK = 512
# Sharpes closer than this are equal: sums over blocks round differently from sums over rows
_TIE = 1e-12


def psr(sharpe: float, n: int, skew: float = 0.0, kurtosis: float = 3.0, benchmark: float = 0.0) -> float:
    """Probabilistic Sharpe ratio: the probability that the true Sharpe exceeds `benchmark`.

    n: number of returns. Bailey & López de Prado 2012, eq. 7.
    """
    if n < 2:
        raise DataError(f"{n} returns: the probabilistic Sharpe ratio needs at least 2")
    return _NORMAL.cdf((sharpe - benchmark) * sqrt((n - 1) / _variance_factor(sharpe, skew, kurtosis)))


def min_trl(
    sharpe: float, benchmark: float = 0.0, alpha: float = 0.05, skew: float = 0.0, kurtosis: float = 3.0
) -> float:
    """Minimum track record length: returns needed until PSR(benchmark) reaches 1 − alpha.

    Raises DataError when sharpe <= benchmark: no record is long enough. Bailey & López de Prado 2012, eq. 11.
    """
    if sharpe <= benchmark:
        raise DataError(
            f"Sharpe {sharpe:.4f} does not exceed {benchmark:.4f}: no track record is long enough"
        )
    z = _NORMAL.inv_cdf(1 - alpha) / (sharpe - benchmark)
    return 1 + _variance_factor(sharpe, skew, kurtosis) * z * z


def expected_max_sharpe(variance: float, trials: int) -> float:
    """The best Sharpe to expect from `trials` strategies without skill whose Sharpes vary by `variance`.

    0 for a single trial. Bailey & López de Prado 2014, eq. 1.
    """
    if trials < 1 or not variance >= 0:
        raise DataError(f"{trials} trials of variance {variance}: need at least 1 trial and a variance >= 0")
    if trials == 1:
        return 0.0
    first, second = _NORMAL.inv_cdf(1 - 1 / trials), _NORMAL.inv_cdf(1 - 1 / (trials * e))
    return sqrt(variance) * ((1 - _EULER_GAMMA) * first + _EULER_GAMMA * second)


def dsr(
    sharpe: float, n: int, skew: float = 0.0, kurtosis: float = 3.0, *, trials: int, variance: float
) -> float:
    """Deflated Sharpe ratio: PSR against the best Sharpe that luck alone gives over `trials`.

    trials: EVERY strategy tried, tuning trials and abandoned runs included.
    variance: of the Sharpes of all those trials, per period. Bailey & López de Prado 2014, eq. 2.
    """
    return psr(sharpe, n, skew, kurtosis, expected_max_sharpe(variance, trials))


@dataclass(frozen=True, eq=False)
class Pbo:
    """Probability of backtest overfitting, with the logit of every split, [C(S, S/2)]."""

    probability: float
    logits: Matrix


def pbo(returns: Matrix, blocks: int = 16) -> Pbo:
    """Share of splits in which the strategy best in sample is at or below the median out of sample.

    returns: [T, N] per-period returns of N strategies over the same T rows, finite.
    blocks: S, even; the rows are cut into S runs and every choice of S/2 of them is one sample.

    Ties: of strategies equally good in sample the last listed is taken; out of sample it takes the best of
    the ranks it shares; a logit of 0 counts as overfit. A strategy that never moves scores 0. One estimate
    is noisy (standard deviation .185 on pure noise): report it, never gate on it alone.
    Bailey, Borwein, López de Prado & Zhu 2015.
    """
    returns = np.asarray(returns, dtype=np.float64)
    _check_matrix(returns, blocks)
    splits = _halves(blocks)
    sums, squares, rows = _block_sums(returns, blocks)
    scored = _Splits(splits, sums, squares, rows, returns.mean(axis=0))
    half = len(splits) // 2
    logits = np.empty(len(splits))
    for start in range(0, half, _CHUNK):
        part = np.arange(start, min(start + _CHUNK, half))
        # combinations() lists complements in mirror order, so one half's scores are the other's test
        mirror = len(splits) - 1 - part
        first, second = scored.sharpes(part), scored.sharpes(mirror)
        logits[part] = _logits(first, second)
        logits[mirror] = _logits(second, first)
    return Pbo(float((logits <= 0).mean()), logits)


def _variance_factor(sharpe: float, skew: float, kurtosis: float) -> float:
    """Variance of √n times the Sharpe estimate, corrected for skew and fat tails."""
    factor = 1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2
    if factor <= 0:
        raise DataError(
            f"skew {skew:.3f} and kurtosis {kurtosis:.3f} cannot belong to one sample: raw kurtosis is at "
            "least 1 + skew² (was excess kurtosis passed?)"
        )
    return factor


@dataclass(frozen=True, eq=False)
class _Splits:
    """Sums over blocks, from which the Sharpe of any union of blocks is a matrix product away."""

    member: Matrix  # [C, S] 1 where the block is in the sample
    sums: Matrix  # [S, N] of returns less their overall mean
    squares: Matrix  # [S, N]
    rows: Matrix  # [S]
    mean: Matrix  # [N]

    def sharpes(self, part: npt.NDArray[np.int64]) -> Matrix:
        """Sharpe (ddof 1) of every strategy in the samples `part`: [len(part), N]."""
        member = self.member[part]
        rows = (member @ self.rows)[:, None]
        mean = member @ self.sums / rows
        variance = (member @ self.squares - rows * mean**2) / (rows - 1)
        # what is left of a constant strategy is rounding error, not a variance
        moves = variance > 1e-24 + 1e-14 * self.mean**2
        return np.where(moves, (mean + self.mean) / np.sqrt(np.where(moves, variance, 1.0)), 0.0)


def _block_sums(returns: Matrix, blocks: int) -> tuple[Matrix, Matrix, Matrix]:
    # centred first: sums of squares of raw returns would cancel for a strategy that hardly moves
    centred = returns - returns.mean(axis=0)
    rows = np.array([len(part) for part in np.array_split(np.arange(len(returns)), blocks)])
    starts = np.r_[0, np.cumsum(rows)[:-1]]
    return (
        np.add.reduceat(centred, starts, axis=0),
        np.add.reduceat(centred**2, starts, axis=0),
        rows.astype(np.float64),
    )


@cache
def _halves(blocks: int) -> Matrix:
    """Membership of every half of the blocks, [C(S, S/2), S]."""
    chosen = np.array(list(combinations(range(blocks), blocks // 2)))
    member = np.zeros((len(chosen), blocks))
    np.put_along_axis(member, chosen, 1.0, axis=1)
    member.flags.writeable = False
    return member


def _logits(inside: Matrix, outside: Matrix) -> Matrix:
    """ln(ω/(1−ω)) of the rank ω that the best inside takes outside; both [k, N]."""
    count = outside.shape[1]
    ties = inside >= inside.max(axis=1, keepdims=True) - _TIE
    best = count - 1 - ties[:, ::-1].argmax(axis=1)
    score = outside[np.arange(len(outside)), best][:, None]
    rank = (outside <= score + _TIE).sum(axis=1)
    relative = rank / (count + 1)
    logits: Matrix = np.log(relative / (1 - relative))
    return logits


def _check_matrix(returns: Matrix, blocks: int) -> None:
    if returns.ndim != 2 or returns.shape[1] < 2:
        raise DataError(
            f"returns of shape {returns.shape}: needs [rows, strategies] with 2 strategies or more"
        )
    if blocks < 2 or blocks % 2 or len(returns) < 2 * blocks:
        raise DataError(
            f"{blocks} blocks of {len(returns)} rows: needs an even number of blocks of 2 rows or more"
        )
    if not np.isfinite(returns).all():
        raise DataError("returns contain NaN or infinity: cut to the rows that every strategy covers")
