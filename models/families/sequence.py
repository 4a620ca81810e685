"""What the families that read a window of rows share: windows as views, one training loop, one fitted model.

A family adds a network, its own parameters and a writer of ONNX nodes (models/sequence_graph.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from models.dataset import padded
from models.families.base import (
    FamilyParams,
    Scaler,
    SearchSpace,
    Span,
    class_balance,
    class_weights,
    inner_split,
    read_arrays,
    weighted_log_loss,
    write_arrays,
)
from models.logits import softmax

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from models.dataset import Dataset, Features, Floats, Rows

_PREDICT_BATCH = 1024

Sizes = Mapping[str, int]
"""What a network is built from: features, window, outputs, and the family's own."""


class SequenceParams(FamilyParams):
    """Parameters that every sequence family has."""

    dropout: float = Field(0.3, ge=0, lt=1, description="share of activations dropped while training")
    learning_rate: float = Field(1e-3, gt=0, description="step of AdamW")
    weight_decay: float = Field(0.1, ge=0, description="decay of AdamW")
    batch: int = Field(128, ge=1, description="windows per step")
    max_epochs: int = Field(12, ge=0, description="passes over the fitting rows, at most")
    patience: int = Field(3, ge=1, description="epochs without a better inner log-loss before stopping")
    inner_share: float = Field(0.2, gt=0, lt=1, description="share of training rows in the inner tail block")


TRAINING_SPACE: SearchSpace = {
    "dropout": Span(0.1, 0.6),
    "learning_rate": Span(2e-4, 5e-3, log=True),
    "weight_decay": Span(0.01, 1.0, log=True),
}
"""Where tuning looks for what every sequence family has."""


class Network(nn.Module):
    """A network over windows of rows: the same projection of every row, then what depends on their order.

    `embed` maps scaled rows [..., F] to [..., E]; `forward` maps embedded windows [N, T, E] to the logits
    [N, K-1] of the classes after the first, against the first, and ends in the linear layer `head`. Apart,
    because neighbouring windows share their rows: a prediction projects each row once, not T times.
    """

    embed: nn.Linear
    head: nn.Linear

    def __init__(self, *, dropout: float = 0.0, **sizes: int) -> None:
        super().__init__()


@dataclass(frozen=True)
class SequenceModel:
    """softmax([0, network(windows)]); (x - mean) / scale, missing -> 0, and the network in float32."""

    mean: Features
    scale: Features
    sizes: Sizes
    network: Network

    @property
    def window(self) -> int:
        """Rows that a prediction reads: x[r - window + 1 : r + 1] for row r."""
        return self.sizes["window"]

    def predict(self, x: Features, rows: Rows) -> Floats:
        """P(class) float64 [k, K]; rows before 0 are missing."""
        if len(rows) == 0:
            return np.empty((0, self.sizes["outputs"] + 1))
        block = Block.of(x, rows, self.mean, self.scale, self.window)
        with _reproducible(0):
            return softmax(_logits(self.network, block, rows))

    def importance(self) -> None:
        """A sequence model has no natural measure; permute its inputs instead."""

    def contributions(self, x: Features, rows: Rows) -> None:
        """A prediction depends on earlier rows too: it has no value per feature of one row."""

    def save(self, directory: Path) -> None:
        """Write scaler, sizes and the network's tensors as `model.npz`."""
        tensors = {f"network.{name}": t.numpy() for name, t in self.network.state_dict().items()}
        sizes = {f"size.{name}": np.array(size) for name, size in self.sizes.items()}
        write_arrays(directory / "model.npz", {"mean": self.mean, "scale": self.scale, **sizes, **tensors})


def fit_sequence(
    data: Dataset,
    rows: Rows,
    kind: type[Network],
    own: Sizes,
    *,
    seed: int,
    window: int,
    params: SequenceParams,
) -> SequenceModel:
    """Find the number of epochs on the inner block, none among them, then train that many on all `rows`.

    `kind` is built from `own` sizes, besides features, window and outputs.
    """
    sizes = {"features": data.x.shape[1], "window": window, "outputs": len(data.classes) - 1, **own}
    fitting, tail = inner_split(data, rows, params.inner_share)
    epochs = count_epochs(data, fitting, tail, kind, sizes, seed=seed, params=params)
    run = _Run.start(data, rows, sizes, seed, params)
    with _reproducible(seed):
        network = run.fresh_network(kind)
        optimiser = _optimiser(network, params)
        for _ in range(epochs):
            run.epoch(network, optimiser)
    with torch.no_grad():
        network.head.bias.add_(torch.from_numpy(run.offsets[1:]))
    return SequenceModel(run.mean, run.scale, sizes, network.eval())


def load_sequence(directory: Path, kind: type[Network]) -> SequenceModel:
    """The inverse of `SequenceModel.save`."""
    stored = read_arrays(directory / "model.npz")
    sizes = {name: int(value) for name, value in _under("size.", stored).items()}
    network = kind(dropout=0.0, **sizes)
    network.load_state_dict({name: torch.from_numpy(v) for name, v in _under("network.", stored).items()})
    return SequenceModel(stored["mean"], stored["scale"], sizes, network.eval())


def count_epochs(
    data: Dataset,
    fitting: Rows,
    tail: Rows,
    kind: type[Network],
    sizes: Sizes,
    *,
    seed: int,
    params: SequenceParams,
) -> int:
    """Epochs on `fitting` with the best log-loss on `tail`, given up after `patience` worse ones."""
    run = _Run.start(data, fitting, sizes, seed, params)
    tail_w, _ = class_balance(data.y[tail], data.w[tail], params.class_weight, len(data.classes))
    block = Block.of(data.x, tail, run.mean, run.scale, sizes["window"])
    losses: list[float] = []
    with _reproducible(seed):
        network = run.fresh_network(kind)
        optimiser = _optimiser(network, params)
        for epoch in range(params.max_epochs + 1):
            if epoch > 0:
                run.epoch(network, optimiser)
            p = softmax(_logits(network, block, tail))
            losses.append(weighted_log_loss(data.y[tail], p, tail_w))
            if epoch - int(np.argmin(losses)) >= params.patience:
                break
    return int(np.argmin(losses))


@dataclass(frozen=True)
class Block:
    """Scaled rows [m, F], float32, over which windows are views: it costs no memory to have them all."""

    scaled: Tensor
    first: int
    window: int

    @classmethod
    def of(cls, x: Features, rows: Rows, mean: Features, scale: Features, window: int) -> Self:
        """The rows that the windows of `rows` touch, NaN as 0, under zeros where they reach before row 0."""
        first = int(rows.min())
        touched = x[max(0, first - window + 1) : int(rows.max()) + 1]
        scaled = padded((touched - mean) / scale, window, first)
        return cls(torch.from_numpy(np.where(np.isnan(scaled), np.float32(0.0), scaled)), first, window)

    def views(self, per_row: Tensor) -> Tensor:
        """Windows [m - T + 1, T, E] of `per_row` [m, E], something known of every row of the block."""
        return per_row.unfold(0, self.window, 1).transpose(1, 2)

    def numbers(self, rows: Rows) -> Tensor:
        """Which of the views end at `rows` [k]."""
        return torch.from_numpy(rows - self.first)


@dataclass(frozen=True)
class _Run:
    """One training run over the windows of `rows` [k]: targets and weights [k], drawn in random order."""

    rows: Rows
    mean: Features
    scale: Features
    sizes: Sizes
    block: Block
    targets: Tensor
    weights: Tensor
    log_rates: Floats
    offsets: Floats
    rng: np.random.Generator
    params: SequenceParams

    @classmethod
    def start(cls, data: Dataset, rows: Rows, sizes: Sizes, seed: int, params: SequenceParams) -> Self:
        scaler, y, classes = Scaler.fit(data.x[rows]), data.y[rows], len(data.classes)
        mean, scale = scaler.mean.astype(np.float32), scaler.scale.astype(np.float32)
        w, offsets = class_balance(y, data.w[rows], params.class_weight, classes)
        log_rates = np.log(class_weights(y, w, classes))
        return cls(
            rows=rows,
            mean=mean,
            scale=scale,
            sizes=sizes,
            block=Block.of(data.x, rows, mean, scale, sizes["window"]),
            targets=torch.from_numpy(y.astype(np.int64)),
            weights=torch.from_numpy((w / w.mean()).astype(np.float32)),
            log_rates=log_rates - log_rates[0],
            offsets=offsets,
            rng=np.random.default_rng(seed),
            params=params,
        )

    def fresh_network(self, kind: type[Network]) -> Network:
        """A network that starts at the rates of the rows."""
        network = kind(dropout=self.params.dropout, **self.sizes)
        with torch.no_grad():
            network.head.weight.zero_()
            network.head.bias.copy_(torch.from_numpy(self.log_rates[1:]))
        return network

    def epoch(self, network: Network, optimiser: torch.optim.Optimizer) -> None:
        """One pass over the rows."""
        network.train()
        views, ends = self.block.views(self.block.scaled), self.block.numbers(self.rows)
        order = torch.from_numpy(self.rng.permutation(len(self.rows)))
        for start in range(0, len(order), self.params.batch):
            drawn = order[start : start + self.params.batch]
            logits = network(network.embed(views.index_select(0, ends[drawn])))
            against_first = torch.cat([logits.new_zeros(len(drawn), 1), logits], dim=1)  # [N, K]
            losses = cross_entropy(against_first, self.targets[drawn], reduction="none")
            optimiser.zero_grad()
            (losses * self.weights[drawn]).mean().backward()  # type: ignore[no-untyped-call]
            clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()


def _logits(network: Network, block: Block, rows: Rows) -> Floats:
    """Logits float64 [k, K-1] at `rows` [k], which the block covers."""
    network.eval()
    with torch.no_grad():
        views, ends = block.views(network.embed(block.scaled)), block.numbers(rows)
        parts = [
            network(views.index_select(0, ends[start : start + _PREDICT_BATCH]))
            for start in range(0, len(ends), _PREDICT_BATCH)
        ]
    return np.asarray(torch.cat(parts).double().numpy(), dtype=np.float64)


def _optimiser(network: Network, params: SequenceParams) -> torch.optim.Optimizer:
    # Fused: for networks this small the steps' overhead is a good part of the time.
    return torch.optim.AdamW(
        network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay, fused=True
    )


def _under(prefix: str, stored: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """One thread, deterministic kernels, own random state; the caller's settings are put back."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict)
