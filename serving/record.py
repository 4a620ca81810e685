"""A signal as the row that the prediction log keeps."""

import numpy as np
from numpy.typing import NDArray

from core.signal import Signal
from monitoring.prediction_log import Prediction
from serving.bar import Bar


def as_prediction(signal: Signal, bar: Bar, vector: NDArray[np.float64], logged_at: float) -> Prediction:
    """The row of a signal that has a probability; `vector` [F] is its features, `logged_at` epoch time."""
    assert signal.probability is not None
    assert signal.confidence is not None
    return Prediction(
        symbol=bar.symbol,
        bar_time=bar.timestamp,
        logged_at=logged_at,
        model=signal.model,
        model_version=signal.model_version,
        data_hash=signal.data_hash,
        probability=signal.probability,
        confidence=signal.confidence,
        side=signal.side,
        base_probabilities=signal.base_probabilities,
        features=vector.tobytes(),
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        volume=bar.volume,
        latency_ms=signal.latency_ms,
    )
