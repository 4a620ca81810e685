"""From what the families' nodes say to class probabilities: one link function for all families at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.graph import Graph
from models.logits import Floats

Link = Literal["log_odds", "margins", "probabilities"]


@dataclass(frozen=True)
class Part:
    """What a family's nodes say, double [N, C]: `log_odds` of the second class of two, one column; `margins`
    of K > 2 classes, one each, up to what they share; or `probabilities` of the classes after the first.
    """

    source: str
    link: Link


@dataclass(frozen=True)
class Bases:
    """Class probabilities of the base models, P(class k of model m) = (source @ weights + bias)[m, k]:
    `source` double [N, L], `weights` [L, M, K], `bias` [M, K]. What is linear in them is one node.
    """

    source: str
    weights: Floats
    bias: Floats

    def mix(self, graph: Graph, by: Floats) -> str:
        """The probabilities added up under `by` [M, K, C]: double [N, C]."""
        weights = np.einsum("lmk,mkc->lc", self.weights, by)
        return graph.linear(self.source, weights, np.einsum("mk,mkc->c", self.bias, by))

    def every(self, graph: Graph, first: int = 0) -> str:
        """The probabilities of the classes from `first` on, model by model: double [N, M * (K - first)]."""
        models, classes = self.bias.shape
        one_each = np.eye(models * classes).reshape(models, classes, models, classes)
        return self.mix(graph, one_each[..., first:].reshape(models, classes, -1))


def link(graph: Graph, said: Sequence[Part | Floats], classes: int, rows: str) -> Bases:
    """Class probabilities of models that each say a Part, or class rates [K] that never change.

    `rows` double [N, F] tells how many rows there are when all are such rates.
    """
    parts = {m: part for m, part in enumerate(said) if isinstance(part, Part)}
    raw = [m for m, part in parts.items() if part.link != "probabilities"]
    ready = [m for m, part in parts.items() if part.link == "probabilities"]
    sources = [_squash(graph, [parts[m].source for m in raw], classes)] if raw else []
    sources += [parts[m].source for m in ready] or ([] if raw else [_zeros(graph, rows)])
    read = {m: _columns(part, classes) for m, part in enumerate(said)}
    own = np.eye(len(said))
    weights = [read[m][0][:, None] * own[m][:, None] for m in raw + ready]  # [C, M, K] each
    bias = np.stack([constant for _, constant in read.values()])
    return Bases(graph.join(sources), np.concatenate(weights or [np.zeros((1, *bias.shape))]), bias)


def _columns(part: Part | Floats, classes: int) -> tuple[Floats, Floats]:
    """What each column adds to the class probabilities [C, K], and what is there without any [K]."""
    if not isinstance(part, Part):
        return np.empty((0, classes)), part
    if part.link == "margins":
        return np.eye(classes), np.zeros(classes)
    # Of the classes after the first: what they get, the first lacks.
    return np.eye(classes)[1:] - np.eye(classes)[0], np.eye(classes)[0]


def _zeros(graph: Graph, rows: str) -> str:
    """Double [N, 1]."""
    absent = graph.node("Gather", [rows, graph.indices(0)], axis=1)
    return graph.node("Shrink", [absent], lambd=float("inf"))


def _squash(graph: Graph, sources: list[str], classes: int) -> str:
    """The link function: log-odds [N, 1] each to [N, M], or margins [N, K] each to [N, M * K]."""
    joined = graph.join(sources)
    if classes == 2:
        return graph.node("Sigmoid", [joined])
    if len(sources) == 1:
        return graph.node("Softmax", [joined], axis=1)
    models = graph.node("Reshape", [joined, graph.indices(-1, len(sources), classes)])
    shares = graph.node("Softmax", [models], axis=2)
    return graph.node("Reshape", [shares, graph.indices(-1, len(sources) * classes)])
