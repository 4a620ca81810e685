"""What a model says of a bar: class probabilities by name, and why a signal may not be traded."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.signal import Signal
from serving.bar import Bar
from serving.plane import Plane
from tests.serving.kit import CLASSES, make_bundle

NewPlane = Callable[[Path], Plane]
OTHER = "the model was trained on sp500: EUR_USD is another symbol"


def _push(plane: Plane, symbol: str, bars: pd.DataFrame) -> list[Signal]:
    rows = zip(bars.index, bars.to_numpy().tolist(), strict=True)
    return asyncio.run(plane.bars([Bar(symbol, time.timestamp(), *row) for time, row in rows]))


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_come_by_name(new_plane: NewPlane, tmp_path: Path, bars: pd.DataFrame, classes: int) -> None:
    plane = new_plane(make_bundle(tmp_path / "b", bars, classes=classes))
    (signal,) = _push(plane, "sp500", bars.iloc[601:602])
    model, state = plane.state("sp500")
    expected = model.score(state.window[None]).class_probabilities[0].tolist()
    assert list(signal.class_probabilities.items()) == list(zip(CLASSES[classes], expected, strict=True))
    assert sum(expected) == pytest.approx(1.0, abs=1e-12)
    assert plane.signal("sp500").class_probabilities == signal.class_probabilities
    # "up" is half of what is flat and all of what is up, of two classes as of three
    weights = np.linspace(0.0, 1.0, classes)
    assert signal.probability == pytest.approx(weights @ expected, abs=1e-12)


def test_a_symbol_the_model_was_not_trained_on_is_held_with_the_reason(
    new_plane: NewPlane, tmp_path: Path, bars: pd.DataFrame
) -> None:
    plane = new_plane(make_bundle(tmp_path / "b", bars, bias=3.0))
    own = _push(plane, "sp500", bars.iloc[601:602])[0]
    warming, *_, other = _push(plane, "EUR_USD", bars.iloc[:602])
    assert (own.side, own.tradable, own.reasons) == ("strong_buy", True, [])
    # the same features and the same probability: what is missing is the evidence
    assert (other.probability, other.side, other.tradable) == (own.probability, "hold", False)
    assert other.reasons == plane.signal("EUR_USD").reasons == [OTHER]
    assert (warming.side, warming.tradable, warming.class_probabilities) == ("hold", False, {})
    assert (warming.reasons[0][:10], warming.reasons[1:]) == ("warming up", [OTHER])


def test_a_model_that_may_not_trade_says_both_reasons(
    new_plane: NewPlane, tmp_path: Path, bars: pd.DataFrame
) -> None:
    plane = new_plane(make_bundle(tmp_path / "b", bars, tradable=False))
    signal = _push(plane, "EUR_USD", bars.iloc[:450])[-1]
    assert signal.probability is not None
    assert signal.reasons == ["deflated Sharpe 0.31 is below 0.95", OTHER]
