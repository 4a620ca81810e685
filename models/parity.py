"""Proof that the exported graph says what the training libraries say, missing values included."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from models.dataset import Features, Floats, Rows, windows
from models.ensemble import Ensemble, Predictions
from models.onnx_run import Runner

_FINAL = {"class_probabilities": "classes", "probability": "probability", "confidence": "confidence"}
_CHUNK = 512
_SINGLES = 16


def check(
    model: bytes,
    ensemble: Ensemble,
    x: Features,
    rows: Rows,
    *,
    at_least: int = 5000,
    missing: float = 0.1,
    seed: int = 0,
) -> dict[str, float]:
    """Largest absolute difference of each base model's class probabilities, and of every output of the
    ensemble, by name: "class_probabilities", "probability" and "confidence".

    Held-out `rows` of `x` float32 [n, F] are compared as they are, then again with a random share `missing`
    of all values made NaN, as often as it takes to have `at_least` such rows; the first few also one by one,
    since the service asks for one row at a time. The figures depend on the arguments alone.
    """
    if len(rows) == 0:
        raise DataError("parity: 0 held-out rows, at least 1 is needed: lengthen the test blocks")
    runner, worst = Runner(model), dict.fromkeys((*ensemble.names, *_FINAL), 0.0)
    singles = [slice(k, k + 1) for k in range(min(_SINGLES, len(rows)))]
    parts = [slice(start, start + _CHUNK) for start in range(0, len(rows), _CHUNK)]
    for values in _variants(x, -(-at_least // len(rows)), missing, seed):
        native = ensemble.predict(values, rows)
        for part in [*parts, *singles]:
            answers = runner(windows(values, rows[part], ensemble.window))
            _widen(worst, ensemble.names, answers, native, part)
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
        # Not the signal: that of a meta target is the same for everything below one half.
        _keep(worst, name, answers.base_classes[:, column], native.base_classes[part, column])
    for name, field in _FINAL.items():
        _keep(worst, name, getattr(answers, field), getattr(native, field)[part])


def _keep(worst: dict[str, float], name: str, a: Floats, b: NDArray[np.float64]) -> None:
    # np.maximum keeps NaN, so that an answer that is not a number cannot pass.
    worst[name] = float(np.maximum(worst[name], np.max(np.abs(a - b))))
