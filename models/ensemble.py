"""The ensemble: base models, what combines and calibrates them, and how far its answers are to be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from core.errors import ArtifactError
from core.files import read_json, write_json
from models.calibration import Calibrator, fit_calibrator
from models.calibration import Kind as Calibration
from models.combination import (
    REFERENCE,
    Combination,
    Known,
    Method,
    class_rates,
    combination_from_json,
    fit_combination,
)
from models.families import get_family
from models.logits import Floats, softmax
from models.targets import Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from models.dataset import Features, Rows
    from models.families.base import Fitted

_SAME = 1e-12


@dataclass(frozen=True)
class Recipe:
    """How base models are combined and calibrated; `params.yaml` explains each under `ensemble`."""

    method: Method = "stack"
    half_life: float = 252.0
    shrinkage: float = 1.0
    calibration: Calibration = "sigmoid"


@dataclass(frozen=True)
class Predictions:
    """Rows [k] of an ensemble: each base model's signal [k, M], calibrated class probabilities [k, K], their
    signal (Target.signal) [k] and its confidence [k]; class probabilities of the base models [k, M, K].
    """

    base: Floats
    classes: Floats
    probability: Floats
    confidence: Floats
    base_classes: Floats


@dataclass(frozen=True)
class Head:
    """What stands on the base models: a combination, its calibrator, and its skill in [0, 1]."""

    combination: Combination
    calibrator: Calibrator
    skill: float

    def predict(self, base: Floats, target: Target, side: Floats | None) -> Predictions:
        """Combine class probabilities [k, M, K]; `side` [k] of the primary signal for a meta target."""
        classes = self.calibrator.predict(self.combination.logit(base))
        signal = target.signal(classes, side)
        signals = np.column_stack([target.signal(base[:, m], side) for m in range(base.shape[1])])
        trust = confidence(signal, signals, self.combination.shares(), self.skill)
        return Predictions(signals, classes, signal, trust, base)

    def to_json(self) -> dict[str, Any]:
        """A mapping of plain numbers and lists; floats survive JSON exactly."""
        parts = {"combination": self.combination.to_json(), "calibrator": self.calibrator.to_json()}
        return {**parts, "skill": self.skill}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; ArtifactError when a field is missing."""
        try:
            combination, calibrator, skill = (stored[k] for k in ("combination", "calibrator", "skill"))
        except KeyError as fault:
            raise ArtifactError(f"ensemble: {fault} is missing; fit it again") from fault
        return cls(combination_from_json(combination), Calibrator.from_json(calibrator), float(skill))


def fit_head(names: Sequence[str], below: Known, above: Known, known: Known, recipe: Recipe) -> Head:
    """The combination of the rows `below`, the calibrator and the skill of the later rows `above`.

    `known` are all rows whose outcome is known when the head is put to use: a blend takes its weights from
    them, since it lives by recent skill; the calibrator and the skill are of one that had not seen `above`.
    """
    how = {"half_life": recipe.half_life, "shrinkage": recipe.shrinkage}
    combination = fit_combination(recipe.method, names, below, **how)
    z = combination.logit(above.base)
    calibrator = fit_calibrator(recipe.calibration, z, above.y, above.w, shrinkage=recipe.shrinkage)
    skill = measure_skill(above, softmax(z), _know_nothing(names, below, above, recipe), recipe.half_life)
    if recipe.method == "blend":
        combination = fit_combination("blend", names, known, **how)
    return Head(combination, calibrator, skill)


def _know_nothing(names: Sequence[str], below: Known, above: Known, recipe: Recipe) -> Floats:
    """Class probabilities [n, K] at `above` of a combination of the base rate alone, fitted `below`.

    The rate of recent rows is no skill, so that both sides follow it in the same way.
    """
    if REFERENCE not in names:
        return np.broadcast_to(class_rates(below), (len(above.y), above.base.shape[2]))
    only = [list(names).index(REFERENCE)]
    alone = Known(below.rows, below.base[:, only], below.y, below.w, below.evidence)
    how = {"half_life": recipe.half_life, "shrinkage": recipe.shrinkage}
    return softmax(fit_combination(recipe.method, [REFERENCE], alone, **how).logit(above.base[:, only]))


def measure_skill(known: Known, ours: Floats, theirs: Floats, half_life: float) -> float:
    """How likely our class probabilities [n, K] have the lower expected log-loss of late, in [0, 1].

    The probability that Student's t exceeds the (negative) t-statistic of the mean difference of losses:
    the posterior under a flat prior. A row counts as the independent rows it stands for, halved every
    `half_life` rows; with weights v their number is (sum v)^2 / sum(v * recency), which for labels
    of h bars is n / h. One half where nothing can be told: one independent row or fewer, or equal losses.
    """
    from scipy.special import stdtr

    recency = known.recency(half_life)
    weight = known.evidence * recency
    total, overlap = float(np.sum(weight)), float(np.sum(weight * recency))
    gain = known.losses(theirs) - known.losses(ours)
    if overlap <= 0.0 or total**2 / overlap <= 1.0 or float(np.max(np.abs(gain))) <= _SAME:
        return 0.5
    freedom = total**2 / overlap - 1.0
    mean = float(np.sum(weight * gain)) / total
    variance = float(np.sum(weight * (gain - mean) ** 2)) / total
    if variance <= _SAME**2:
        return float(mean > 0.0)
    return float(stdtr(freedom, mean / np.sqrt(variance / freedom)))


def confidence(signal: Floats, base: Floats, shares: Floats, skill: float) -> Floats:
    """|2s - 1| * (1 - 2 spread) * skill, each factor in [0, 1]; [n], float64.

    `signal` [n] of the ensemble, `base` [n, M] of its models, spread their standard deviation under
    `shares` [M] (Head.combination.shares). 0 means a coin toss, models that disagree or a combination that
    knows less than the base rate; 1 a certainty all share and skill beyond doubt.
    """
    mean = np.sum(base * shares, axis=1, keepdims=True)
    spread = np.sqrt(np.sum((base - mean) ** 2 * shares, axis=1))
    trust = np.abs(2.0 * signal - 1.0) * (1.0 - 2.0 * spread) * skill
    return np.asarray(np.clip(trust, 0.0, 1.0), dtype=np.float64)


@dataclass(frozen=True)
class Ensemble:
    """Base models by name and the head on them; `window` is the number of bars that sequence models see."""

    fitted: dict[str, Fitted]
    head: Head
    target: Target
    feature_names: tuple[str, ...]
    window: int

    @property
    def names(self) -> tuple[str, ...]:
        """The base models, in the order of the outputs."""
        return self.head.combination.names

    def predict(self, x: Features, rows: Rows) -> Predictions:
        """Predictions at `rows` [k] of `x` float32 [n, F]."""
        base = np.stack([self.fitted[name].predict(x, rows) for name in self.names], axis=1)
        return self.head.predict(base, self.target, self.target.side(x[rows]))

    def importance(self) -> dict[str, Floats]:
        """Feature importance [F] of each family that has one, in that family's own measure."""
        measured = {name: model.importance() for name, model in self.fitted.items()}
        return {name: values for name, values in measured.items() if values is not None}

    def save(self, directory: Path) -> None:
        """Write `ensemble.json` and a folder of native files per family; equal ensembles, equal bytes."""
        for name, model in self.fitted.items():
            (directory / name).mkdir(parents=True, exist_ok=True)
            model.save(directory / name)
        own = {
            **self.head.to_json(),
            "target": self.target.kind,
            "feature_names": list(self.feature_names),
            "window": self.window,
        }
        write_json(directory / "ensemble.json", own)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """The inverse of `save`; ArtifactError when a file is missing or unreadable."""
        own = read_json(directory / "ensemble.json")
        head, names = Head.from_json(own), tuple(own["feature_names"])
        fitted = {name: get_family(name).load(directory / name) for name in head.combination.names}
        return cls(fitted, head, Target.of(own["target"], names), names, int(own["window"]))
