"""Proof that the exported graph says what the training libraries say, missing values included."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from models.dataset import Features, Floats, Rows, windows
from models.ensemble import Ensemble, Predictions
from models.onnx_run import Runner

_FINAL = ("probability", "confidence")
_CHUNK = 512
_SINGLES = 16


def check(
    model: bytes,
    ensemble: Ensemble,
    x: Features,
    rows: Rows,
    *,
    window: int,
    at_least: int = 5000,
    missing: float = 0.1,
    seed: int = 0,
) -> dict[str, float]:
    """Largest absolute difference per base model, of "probability" and of "confidence".

    Held-out `rows` of `x` float32 [n, F] are compared as they are, then again with a random share `missing`
    of all values made NaN, as often as it takes to have `at_least` such rows; the first few also one by one,
    since the service asks for one row at a time. The figures depend on the arguments alone.
    """
    if len(rows) == 0:
        raise DataError("parity: 0 held-out rows, at least 1 is needed: lengthen the test blocks")
    runner, worst = Runner(model), dict.fromkeys((*ensemble.stack.names, *_FINAL), 0.0)
    for values in _variants(x, -(-at_least // len(rows)), missing, seed):
        native = ensemble.predict(values, rows)
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            answers = runner(windows(values, rows[part], window))
            _widen(worst, ensemble.stack.names, answers, native, part)
        for k in range(min(_SINGLES, len(rows))):
            part = slice(k, k + 1)
            _widen(worst, ensemble.stack.names, runner(windows(values, rows[part], window)), native, part)
    return worst


def _variants(x: Features, copies: int, missing: float, seed: int) -> Iterator[Features]:
    yield x
    rng = np.random.default_rng(seed)
    for _ in range(copies):
        holes = rng.random(x.shape, dtype=np.float32) < missing
        yield np.where(holes, np.float32(np.nan), x)


def _widen(
    worst: dict[str, float], names: tuple[str, ...], answers: Predictions, native: Predictions, part: slice
) -> None:
    for column, name in enumerate(names):
        _keep(worst, name, answers.base[:, column], native.base[part, column])
    _keep(worst, "probability", answers.probability, native.probability[part])
    _keep(worst, "confidence", answers.confidence, native.confidence[part])


def _keep(worst: dict[str, float], name: str, a: Floats, b: NDArray[np.float64]) -> None:
    # np.maximum keeps NaN, so that an answer that is not a number cannot pass.
    worst[name] = float(np.maximum(worst[name], np.max(np.abs(a - b))))
