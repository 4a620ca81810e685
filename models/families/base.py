"""What the families share: parameters, scaling, class balance, the inner block, files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import ArtifactError, ConfigurationError, DataError
from core.files import sha256_bytes, write_bytes, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from models.dataset import Dataset, Features, Floats, Rows

CLASS_WEIGHT = (
    "'balanced' lets both classes weigh the same while fitting and then adds the log-odds of the true "
    "rate back, so that probabilities stay calibrated to it; 'none' leaves the weights alone"
)


class Fitted(Protocol):
    """A fitted model: it predicts, saves itself as native portable files, and can be exported."""

    def predict(self, x: Features, rows: Rows) -> Floats:
        """P(up) float64 [k] at `rows` [k] of `x` float32 [n, F]; a missing feature is NaN."""

    def importance(self) -> Floats | None:
        """Weight of each feature [F] in the family's own measure, all >= 0; None where there is none."""

    def save(self, directory: Path) -> None:
        """Write native files into `directory`; equal fits write equal bytes, never a pickle."""


class FamilyParams(BaseModel):
    """Base of every family's `Params`: frozen, typed, nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    class_weight: Literal["none", "balanced"] = Field("none", description=CLASS_WEIGHT)


_P = TypeVar("_P", bound=FamilyParams)


def read_params(family: str, kind: type[_P], given: Mapping[str, Any]) -> _P:
    """`kind(**given)`; ConfigurationError lists every unknown, mistyped or out-of-range entry."""
    try:
        return kind(**given)
    except ValidationError as error:
        known = ", ".join(kind.model_fields)
        raise ConfigurationError(
            [
                f"train.{family}.{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']} (known: {known})"
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
    the spans [t, t1) of the two blocks are disjoint. DataError when either has
    fewer than 20 rows or one class only.
    """
    cut = len(rows) - max(1, round(share * len(rows)))
    tail = rows[cut:]
    fitting = rows[:cut][data.t1[rows[:cut]] <= data.times[tail[0]]]
    for name, block in (("fitting", fitting), ("early-stopping", tail)):
        if len(block) < 20:
            raise DataError(
                f"too few rows: {len(rows)} training rows leave {len(block)} {name} rows after purging, "
                "20 are needed; give the fold more rows or shorten the label's horizon"
            )
        check_classes(data, block, name)
    return fitting, tail


def check_classes(data: Dataset, rows: Rows, what: str = "training") -> None:
    """DataError unless `rows` hold both classes with a positive weight."""
    up = float(np.sum(data.w[rows] * data.y[rows]))
    down = float(np.sum(data.w[rows])) - up
    if not (up > 0.0 and down > 1e-9 * up):
        raise DataError(
            f"{what} rows hold one class only ({len(rows)} rows, weight up {up:g}, down {down:g}): "
            "lengthen the fold or change the label"
        )


def class_balance(y: Floats, w: Floats, mode: str) -> tuple[Floats, float]:
    """Fitting weights [n], and the log-odds to add to what was fitted with them.

    `balanced`: each class gets half of the total weight. That moves the fitted log-odds by minus the
    log-odds of the weighted rate of `y`, which the second value gives back.
    """
    if mode == "none":
        return w, 0.0
    rate = float(np.sum(w * y) / np.sum(w))
    return w * np.where(y > 0.5, 0.5 / rate, 0.5 / (1.0 - rate)), float(np.log(rate / (1.0 - rate)))


def weighted_log_loss(y: Floats, probability: Floats, w: Floats) -> float:
    """Mean log-loss in nats under weights `w`; probabilities strictly between 0 and 1."""
    losses = -np.where(y > 0.5, np.log(probability), np.log1p(-probability))
    return float(np.sum(w * losses) / np.sum(w))


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
