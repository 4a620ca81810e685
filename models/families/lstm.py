"""LSTM with attention over the last bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from core.errors import ArtifactError
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
    learning_rate: float = Field(1e-3, gt=0, description="step of AdamW")
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
    """AdamW from the base rate; the epoch with the best inner log-loss is kept, epoch 0 among them."""
    fitting, tail = inner_split(data, rows, params.inner_share)
    scaler = Scaler.fit(data.x[fitting])
    views = _scaled_windows(data.x, scaler, window)
    with _reproducible(seed):
        module = _fresh(data, fitting, params)
        module = _train(module, views, data, fitting, tail, params, np.random.default_rng(seed))
    return Lstm(scaler.mean, scaler.scale, module, window)


def load(directory: Path) -> Lstm:
    """The inverse of `Lstm.save`."""
    stored = read_arrays(directory / "model.npz")
    prefix = "module."
    tensors = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in stored.items() if k.startswith(prefix)}
    try:
        hidden, features = tensors["embed.weight"].shape
        module = LstmAttention(features, hidden, 0.0)
        module.load_state_dict(tensors)
        module.eval()
        return Lstm(stored["mean"], stored["scale"], module, int(stored["window"]))
    except (KeyError, RuntimeError, ValueError) as fault:
        raise ArtifactError(f"LSTM in {directory} is unreadable ({fault}): train again") from fault


def _scaled_windows(x: Features, scaler: Scaler, window: int) -> Tensor:
    scaled = padded(scaler.transform(x).astype(np.float32), window)  # [n + window - 1, F]
    scaled[np.isnan(scaled)] = 0.0
    return torch.from_numpy(scaled).unfold(0, window, 1).transpose(1, 2)  # [n, window, F], a view


def _fresh(data: Dataset, rows: Rows, params: Params) -> LstmAttention:
    """A module that starts at the base rate of the fitting rows."""
    module = LstmAttention(data.x.shape[1], params.hidden, params.dropout)
    w, _ = class_balance(data.y[rows], data.w[rows], params.class_weight)
    rate = float(np.sum(w * data.y[rows]) / np.sum(w))
    with torch.no_grad():
        module.head.weight.zero_()
        module.head.bias.fill_(float(np.log(rate / (1.0 - rate))))
    return module


def _train(
    module: LstmAttention,
    views: Tensor,
    data: Dataset,
    fitting: Rows,
    tail: Rows,
    params: Params,
    rng: np.random.Generator,
) -> LstmAttention:
    w, offset = class_balance(data.y[fitting], data.w[fitting], params.class_weight)
    inner_w, _ = class_balance(data.y[tail], data.w[tail], params.class_weight)
    targets = torch.from_numpy(data.y.astype(np.float32))
    weights = torch.zeros(len(data))
    weights[fitting] = torch.from_numpy((w / w.mean()).astype(np.float32))
    optimiser = torch.optim.AdamW(
        module.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay
    )
    best, best_loss, waited = deepcopy(module), np.inf, 0
    for epoch in range(params.max_epochs + 1):
        if epoch > 0:
            _epoch(module, optimiser, views, targets, weights, rng.permutation(fitting), params.batch)
        loss = weighted_log_loss(data.y[tail], sigmoid(_logits(module, views, tail)), inner_w)
        waited = 0 if loss < best_loss else waited + 1
        if waited == 0:
            best, best_loss = deepcopy(module), loss
        if waited >= params.patience:
            break
    with torch.no_grad():
        best.head.bias.add_(offset)
    return best.eval()


def _epoch(
    module: LstmAttention,
    optimiser: torch.optim.Optimizer,
    views: Tensor,
    targets: Tensor,
    weights: Tensor,
    order: Rows,
    batch: int,
) -> None:
    module.train()
    for start in range(0, len(order), batch):
        rows = torch.from_numpy(order[start : start + batch])
        logits = module(views[rows])
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets[rows], reduction="none")
        optimiser.zero_grad()
        (weights[rows] * losses).mean().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()


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
