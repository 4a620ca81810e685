"""LSTM with attention over the last bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils import clip_grad_norm_

from models.dataset import padded
from models.families.attention import LstmAttention
from models.families.base import (
    FamilyParams,
    Scaler,
    class_balance,
    inner_split,
    read_arrays,
    weighted_log_loss,
    write_arrays,
)
from models.logits import sigmoid

if TYPE_CHECKING:
    from pathlib import Path

    from models.dataset import Dataset, Features, Floats, Rows

_PREDICT_BATCH = 1024


class Params(FamilyParams):
    """Parameters of the LSTM."""

    hidden: int = Field(16, ge=1, description="width of the embedding and of the LSTM state")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of embedded inputs and pooled states dropped")
    learning_rate: float = Field(2e-3, gt=0, description="step of AdamW")
    weight_decay: float = Field(0.1, ge=0, description="decay of AdamW")
    batch: int = Field(128, ge=1, description="windows per step")
    max_epochs: int = Field(12, ge=0, description="passes over the fitting rows, at most")
    patience: int = Field(3, ge=1, description="epochs without a better inner log-loss before stopping")
    inner_share: float = Field(0.2, gt=0, lt=1, description="share of training rows in the inner tail block")


@dataclass(frozen=True)
class Lstm:
    """sigmoid(module(scaled windows)); scaled in float64, missing -> 0, then cast to float32."""

    mean: Floats
    scale: Floats
    module: LstmAttention
    window: int

    def predict(self, x: Features, rows: Rows) -> Floats:
        """P(up) float64 [k]; the window of row r is x[r - window + 1 : r + 1], rows before 0 missing."""
        views = _scaled_windows(x, Scaler(self.mean, self.scale), self.window)
        with _reproducible(0):
            return sigmoid(_logits(self.module, views, rows))

    def importance(self) -> None:
        """A recurrent model has no natural measure; permute its inputs instead."""

    def save(self, directory: Path) -> None:
        """Write scaler, window and the module's tensors as `model.npz`."""
        tensors = {f"module.{name}": t.numpy() for name, t in self.module.state_dict().items()}
        own = {"mean": self.mean, "scale": self.scale, "window": np.array(self.window)}
        write_arrays(directory / "model.npz", {**own, **tensors})


def fit(data: Dataset, rows: Rows, *, seed: int, window: int, params: Params) -> Lstm:
    """Find the number of epochs on the inner block, none among them, then train that many on all `rows`."""
    fitting, tail = inner_split(data, rows, params.inner_share)
    epochs = _count_epochs(data, fitting, tail, seed, window, params)
    run = _Run.start(data, rows, seed, window, params)
    with _reproducible(seed):
        module = run.fresh_module()
        optimiser = _optimiser(module, params)
        for _ in range(epochs):
            run.epoch(module, optimiser)
    with torch.no_grad():
        module.head.bias.add_(run.offset)
    return Lstm(run.scaler.mean, run.scaler.scale, module.eval(), window)


def load(directory: Path) -> Lstm:
    """The inverse of `Lstm.save`."""
    stored = read_arrays(directory / "model.npz")
    prefix = "module."
    tensors = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in stored.items() if k.startswith(prefix)}
    hidden, features = tensors["embed.weight"].shape
    module = LstmAttention(features, hidden, 0.0, len(tensors["score.bias"]))
    module.load_state_dict(tensors)
    return Lstm(stored["mean"], stored["scale"], module.eval(), int(stored["window"]))


def _scaled_windows(x: Features, scaler: Scaler, window: int) -> Tensor:
    scaled = padded(scaler.transform(x).astype(np.float32), window)  # [n + window - 1, F]
    scaled[np.isnan(scaled)] = 0.0
    return torch.from_numpy(scaled).unfold(0, window, 1).transpose(1, 2)  # [n, window, F], a view


def _count_epochs(data: Dataset, fitting: Rows, tail: Rows, seed: int, window: int, params: Params) -> int:
    """Epochs on `fitting` with the best log-loss on `tail`, given up after `patience` worse ones."""
    run = _Run.start(data, fitting, seed, window, params)
    tail_w, _ = class_balance(data.y[tail], data.w[tail], params.class_weight)
    losses: list[float] = []
    with _reproducible(seed):
        module = run.fresh_module()
        optimiser = _optimiser(module, params)
        for epoch in range(params.max_epochs + 1):
            if epoch > 0:
                run.epoch(module, optimiser)
            losses.append(weighted_log_loss(data.y[tail], sigmoid(_logits(module, run.views, tail)), tail_w))
            if epoch - int(np.argmin(losses)) >= params.patience:
                break
    return int(np.argmin(losses))


@dataclass(frozen=True)
class _Run:
    """One training run: rows in random order, weighted targets, windows as a view."""

    rows: Rows
    scaler: Scaler
    views: Tensor
    targets: Tensor
    weights: Tensor
    rate: float
    offset: float
    rng: np.random.Generator
    params: Params

    @classmethod
    def start(cls, data: Dataset, rows: Rows, seed: int, window: int, params: Params) -> Self:
        scaler = Scaler.fit(data.x[rows])
        w, offset = class_balance(data.y[rows], data.w[rows], params.class_weight)
        weights = torch.zeros(len(data))
        weights[torch.from_numpy(rows)] = torch.from_numpy((w / w.mean()).astype(np.float32))
        return cls(
            rows=rows,
            scaler=scaler,
            views=_scaled_windows(data.x, scaler, window),
            targets=torch.from_numpy(data.y.astype(np.float32)),
            weights=weights,
            rate=float(np.sum(w * data.y[rows]) / np.sum(w)),
            offset=offset,
            rng=np.random.default_rng(seed),
            params=params,
        )

    def fresh_module(self) -> LstmAttention:
        """A module that starts at the rate of the rows."""
        module = LstmAttention(
            len(self.scaler.mean), self.params.hidden, self.params.dropout, self.views.shape[1]
        )
        with torch.no_grad():
            module.head.weight.zero_()
            module.head.bias.fill_(float(np.log(self.rate / (1.0 - self.rate))))
        return module

    def epoch(self, module: LstmAttention, optimiser: torch.optim.Optimizer) -> None:
        """One pass over the rows."""
        module.train()
        for rows in torch.split(torch.from_numpy(self.rng.permutation(self.rows)), self.params.batch):
            losses = binary_cross_entropy_with_logits(
                module(self.views[rows]), self.targets[rows], weight=self.weights[rows]
            )
            optimiser.zero_grad()
            losses.backward()  # type: ignore[no-untyped-call]
            clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()


def _optimiser(module: LstmAttention, params: Params) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay)


def _logits(module: LstmAttention, views: Tensor, rows: Rows) -> Floats:
    """Log-odds float64 [k]."""
    module.eval()
    with torch.no_grad():
        parts = [
            module(views[torch.from_numpy(rows[start : start + _PREDICT_BATCH])])
            for start in range(0, len(rows), _PREDICT_BATCH)
        ]
    return torch.cat(parts).double().numpy() if parts else np.empty(0)


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
