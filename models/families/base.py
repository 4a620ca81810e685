"""What the families share: parameters, scaling, class balance, the inner block, files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import ArtifactError, ConfigurationError, DataError
from core.files import sha256_bytes, write_bytes, write_text
from models.logits import log_losses

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from models.dataset import Dataset, Features, Floats, Rows

CLASS_WEIGHT = (
    "'balanced' lets the classes weigh the same while fitting and then adds the log of their true rates "
    "back, so that probabilities stay calibrated to them; 'none' leaves the weights alone"
)


class Fitted(Protocol):
    """A fitted model: it predicts, saves itself as native portable files, and can be exported."""

    def predict(self, x: Features, rows: Rows) -> Floats:
        """P(class) float64 [k, K], summing to 1, at `rows` [k] of `x` float32 [n, F]; NaN is missing."""

    def importance(self) -> Floats | None:
        """Weight of each feature [F] in the family's own measure, all >= 0; None where there is none."""

    def contributions(self, x: Features, rows: Rows) -> Floats | None:
        """SHAP values [k, F] of the log-odds of the last class against the first; None without any."""

    def save(self, directory: Path) -> None:
        """Write native files into `directory`; equal fits write equal bytes, never a pickle."""


class FamilyParams(BaseModel):
    """Base of every family's `Params`: frozen, typed, nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    class_weight: Literal["none", "balanced"] = Field("none", description=CLASS_WEIGHT)


@dataclass(frozen=True)
class Span:
    """Where a number is searched: `low` to `high`, both included; `log` for what varies in factors."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Options:
    """Values to choose from."""

    values: tuple[Any, ...]


SearchSpace = Mapping[str, Span | Options]
"""Parameter name -> where tuning looks; whole numbers for parameters that are whole."""

_P = TypeVar("_P", bound=FamilyParams)


def read_params(family: str, kind: type[_P], given: Mapping[str, Any]) -> _P:
    """`kind(**given)`; ConfigurationError lists every unknown, mistyped or out-of-range entry."""
    try:
        return kind(**given)
    except ValidationError as error:
        known = ", ".join(kind.model_fields)
        raise ConfigurationError(
            [
                f"{'.'.join(map(str, ('train', family, *e['loc'])))} = {e['input']!r}: {e['msg']} "
                f"(known: {known})"
                for e in error.errors()
            ]
        ) from error


@dataclass(frozen=True)
class Scaler:
    """(x - mean) / scale in float64, then missing -> 0, which is the training mean."""

    mean: Floats
    scale: Floats

    @classmethod
    def fit(cls, x: Features) -> Self:
        """Mean and population standard deviation of x [k, F] per feature, missing values left out.

        A feature without a value gets mean 0, one that never changes gets scale 1.
        """
        values = x.astype(np.float64)
        present = ~np.isnan(values)
        count = np.maximum(present.sum(axis=0), 1)
        mean = np.where(present, values, 0.0).sum(axis=0) / count
        deviation = np.where(present, values - mean, 0.0)
        scale = np.sqrt((deviation**2).sum(axis=0) / count)
        # Below this the spread is rounding of one float32 value, and dividing by it would magnify noise.
        flat = scale <= 1e-6 * np.maximum(np.abs(mean), 1e-30)
        return cls(mean, np.where(flat, 1.0, scale))

    def transform(self, x: Features) -> Floats:
        """Scaled float64 array of the shape of `x` [..., F]."""
        scaled = (x.astype(np.float64) - self.mean) / self.scale
        return np.where(np.isnan(scaled), 0.0, scaled)


def inner_split(data: Dataset, rows: Rows, share: float) -> tuple[Rows, Rows]:
    """Split `rows` (ascending) into fitting rows and the tail block that stops the fitting early.

    The tail is the last `share` of the rows; a fitting row whose label reaches into it is purged, so
    the spans [t, t1) of the two blocks are disjoint. DataError when either has fewer than 20 rows, the
    fitting rows lack a class, or the tail holds one class only: a rare class may be missing from it.
    """
    check_classes(data, rows)
    cut = len(rows) - max(1, round(share * len(rows)))
    tail = rows[cut:]
    fitting = rows[:cut][data.t1[rows[:cut]] <= data.times[tail[0]]]
    for name, block in (("fitting", fitting), ("early-stopping", tail)):
        if len(block) < 20:
            raise DataError(
                f"too few rows: {len(rows)} training rows leave {len(block)} {name} rows after purging, "
                "20 are needed; give the fold more rows or shorten the label's horizon"
            )
    check_classes(data, fitting, "fitting")
    check_classes(data, tail, "early-stopping", needed=2)
    return fitting, tail


def check_classes(data: Dataset, rows: Rows, what: str = "training", needed: int | None = None) -> None:
    """DataError unless `rows` hold `needed` classes, every one by default, with a positive weight."""
    weights = class_weights(data.y[rows], data.w[rows], len(data.classes))
    there = np.count_nonzero(weights > 1e-9 * weights.max(initial=0.0))
    if there < (needed or len(weights)):
        held = ", ".join(f"{name} {weight:g}" for name, weight in zip(data.classes, weights, strict=True))
        single = "one class only" if there < 2 else "too few classes"
        raise DataError(
            f"{what} rows hold {single} ({len(rows)} rows, weight {held}): {needed or len(weights)} classes "
            "with 1 row that weighs each are needed; lengthen the fold or change the label"
        )


def class_weights(y: Floats, w: Floats, classes: int) -> Floats:
    """Total weight of each class [K]."""
    return np.bincount(y.astype(np.int64), weights=w, minlength=classes).astype(np.float64)


def class_balance(y: Floats, w: Floats, mode: str, classes: int) -> tuple[Floats, Floats]:
    """Fitting weights [n], and what to add to the log of each fitted class probability [K].

    `balanced`: each class gets the same share of the total weight. That moves the fitted log-odds away from
    the rates of `y`, which the second value gives back; the first class's is 0.
    """
    if mode == "none":
        return w, np.zeros(classes)
    rates = class_weights(y, w, classes) / np.sum(w)
    shares = np.divide(1.0 / classes, rates, out=np.zeros(classes), where=rates > 0.0)
    offsets = np.log(np.maximum(rates, 1e-300))
    return w * shares[y.astype(np.int64)], offsets - offsets[0]


def weighted_log_loss(y: Floats, probability: Floats, w: Floats, least: float = 0.0) -> float:
    """Mean of `log_losses` under weights `w` [n]."""
    return float(np.sum(w * log_losses(y, probability, least)) / np.sum(w))


def against_first(margins: Floats) -> Floats:
    """Margins [k, K, ...] less the first class's [k, K - 1, ...]; a single one [k, 1, ...] is so already."""
    return margins if margins.shape[1] == 1 else margins[:, 1:] - margins[:, :1]


def write_sealed(path: Path, content: bytes) -> None:
    """Write a file and its SHA-256 beside it."""
    write_bytes(path, content)
    write_text(_seal(path), sha256_bytes(content) + "\n")


def read_sealed(path: Path) -> bytes:
    """The content that `write_sealed` wrote; ArtifactError when it is missing or changed.

    The libraries do not check for themselves: LightGBM aborts the process on a cut model.
    """
    try:
        content, seal = path.read_bytes(), _seal(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as fault:
        raise ArtifactError(f"{path} or its .sha256 cannot be read ({fault}): train again") from fault
    if sha256_bytes(content) != seal.strip():
        raise ArtifactError(f"{path} differs from its SHA-256 {seal.strip()}: train again")
    return content


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """A sealed .npz whose bytes depend on the arrays alone."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_sealed(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a sealed .npz, pickles refused; ArtifactError when it cannot be read."""
    with np.load(io.BytesIO(read_sealed(path)), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _seal(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")
