"""Real bars as the simple stationary features of a model, and synthetic samples."""

import numpy as np
import pandas as pd
import pytest


def simple_features(bars: pd.DataFrame) -> pd.DataFrame:
    """Returns, trend, volatility, range, volume and drawdown over several spans; complete rows only."""
    close, high, low, volume = bars["close"], bars["high"], bars["low"], bars["volume"]
    change = np.log(close).diff()
    columns = {f"ret_{n}": np.log(close).diff(n) for n in (1, 2, 5, 10, 20, 60)}
    columns |= {f"ema_{n}": close / close.ewm(span=n, adjust=False).mean() - 1 for n in (5, 10, 20, 50, 100)}
    columns |= {f"vol_{n}": change.rolling(n).std() for n in (5, 10, 20, 60)}
    columns |= {f"skew_{n}": change.rolling(n).skew() for n in (20, 60)}
    columns |= {f"width_{n}": close.rolling(n).std() / close.rolling(n).mean() for n in (20, 50)}
    columns |= {f"drawdown_{n}": close / close.rolling(n).max() - 1 for n in (20, 60, 250)}
    columns |= {f"volume_{n}": volume / volume.rolling(n).mean() - 1 for n in (5, 20, 50)}
    columns |= {"range": (high - low) / close, "body": close / bars["open"] - 1}
    columns |= {"autocorrelation": change.rolling(20).corr(change.shift()), "turnover": np.log(volume).diff()}
    return pd.DataFrame(columns).replace([np.inf, -np.inf], np.nan).dropna()


@pytest.fixture(scope="session")
def feature_rows(sp500: pd.DataFrame) -> pd.DataFrame:
    """Stationary features of the S&P 500 with a pseudo probability; index bar close, UTC."""
    rows = simple_features(sp500)
    return rows.assign(probability=1 / (1 + np.exp(-5 * rows["ret_5"])))


@pytest.fixture(scope="session")
def catalogue_rows(sp500: pd.DataFrame) -> pd.DataFrame:
    """The shipped catalogue over the S&P 500, complete rows only."""
    import features

    return features.build(sp500, features.definitions("core")).dropna()


@pytest.fixture
def noise() -> pd.DataFrame:
    """1,000 independent normal rows of ten columns and a probability; hourly, UTC."""
    rng = np.random.default_rng(11)
    index = pd.date_range("2020-01-01", periods=1000, freq="h", tz="UTC", name="timestamp")
    rows = pd.DataFrame(rng.normal(size=(1000, 10)), index=index, columns=[f"x{i}" for i in range(10)])
    return rows.assign(probability=rng.uniform(0.4, 0.6, 1000))
