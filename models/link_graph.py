"""From what the families' nodes say to class probabilities: one link function for all families at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.graph import Graph
from models.logits import CLIP, Floats, log_odds

Link = Literal["log_odds", "margins", "probabilities"]


@dataclass(frozen=True)
class Part:
    """What a family's nodes say, double [N, C]: `log_odds` of the second class of two, one column; `margins`
    of K > 2 classes, one each, up to what they share; or `probabilities` of the classes after the first.
    """

    source: str
    link: Link


@dataclass(frozen=True)
class Affine:
    """Something of every model, (source @ weights + bias)[m, c]: `source` double [N, L], `weights` [L, M, C],
    `bias` [M, C]. Whatever is linear in it is one node.
    """

    source: str
    weights: Floats
    bias: Floats

    def mix(self, graph: Graph, by: Floats, shift: Floats | float = 0.0) -> str:
        """Double [N, D]: added up under `by` [M, C, D], and `shift` [D]."""
        weights = np.einsum("lmc,mcd->ld", self.weights, by)
        return graph.linear(self.source, weights, np.einsum("mc,mcd->d", self.bias, by) + shift)

    def each(self, graph: Graph, first: int = 0) -> str:
        """As it is, from column `first` of each model on, model by model: double [N, M * (C - first)]."""
        return self.mix(graph, _one_each(*self.bias.shape)[..., first:].reshape(*self.bias.shape, -1))


@dataclass(frozen=True)
class Bases:
    """Class probabilities [M, K] of the base models; `logits` are the log-odds that their source is the
    sigmoid of, where it is that and nothing else.
    """

    probabilities: Affine
    logits: str | None

    def log_odds(self, graph: Graph) -> Affine:
        """Log-odds of the classes after the first against the first [M, K - 1], as `logits.log_odds`."""
        models, classes = self.probabilities.bias.shape
        if self.logits is None:
            logs = log(graph, self.probabilities.each(graph))
            one_each = _one_each(models, classes).reshape(-1, models, classes)
            return Affine(logs, one_each[..., 1:] - one_each[..., :1], np.zeros((models, classes - 1)))
        most = float(log_odds(np.array([0.0, 1.0]))[0])
        clipped = graph.node("Clip", [self.logits, graph.const(-most), graph.const(most)])
        weights = self.probabilities.weights[..., 1:]
        constant = np.where(weights.any(axis=0), 0.0, log_odds(self.probabilities.bias))
        return Affine(clipped, weights, constant)


def _one_each(models: int, columns: int) -> Floats:
    """[M, C, M, C], 1 where model and column are the same."""
    return np.eye(models * columns).reshape(models, columns, models, columns)


def log(graph: Graph, probability: str) -> str:
    """Logarithm of clipped probabilities."""
    return graph.node("Log", [graph.node("Clip", [probability, graph.const(CLIP), graph.const(1.0 - CLIP)])])


def link(graph: Graph, said: Sequence[Part | Floats], classes: int, rows: str) -> Bases:
    """Class probabilities of models that each say a Part, or class rates [K] that never change.

    `rows` double [N, F] tells how many rows there are when all are such rates.
    """
    parts = {m: part for m, part in enumerate(said) if isinstance(part, Part)}
    raw = [m for m, part in parts.items() if part.link != "probabilities"]
    ready = [m for m, part in parts.items() if part.link == "probabilities"]
    logits = graph.join([parts[m].source for m in raw]) if raw else None
    sources = [] if logits is None else [_squash(graph, logits, len(raw), classes)]
    sources += [parts[m].source for m in ready] or ([] if raw else [_zeros(graph, rows)])
    read = {m: _columns(part, classes) for m, part in enumerate(said)}
    own = np.eye(len(said))
    weights = [read[m][0][:, None] * own[m][:, None] for m in raw + ready]  # [C, M, K] each
    bias = np.stack([constant for _, constant in read.values()])
    probabilities = Affine(graph.join(sources), np.concatenate(weights or [np.zeros((1, *bias.shape))]), bias)
    return Bases(probabilities, logits if classes == 2 and not ready else None)


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


def _squash(graph: Graph, logits: str, models: int, classes: int) -> str:
    """The link function: of log-odds [N, M], or of margins [N, M * K]; the probabilities have that shape."""
    if classes == 2:
        return graph.node("Sigmoid", [logits])
    if models == 1:
        return graph.node("Softmax", [logits], axis=1)
    apart = graph.node("Reshape", [logits, graph.indices(-1, models, classes)])
    shares = graph.node("Softmax", [apart], axis=2)
    return graph.node("Reshape", [shares, graph.indices(-1, models * classes)])
