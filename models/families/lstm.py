"""LSTM with attention over the last bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn

from models.families.attention import RecencyPool
from models.families.base import Options, SearchSpace
from models.families.sequence import (
    TRAINING_SPACE,
    Network,
    SequenceModel,
    SequenceParams,
    fit_sequence,
    load_sequence,
)

if TYPE_CHECKING:
    from pathlib import Path

    from models.dataset import Dataset, Rows


class Params(SequenceParams):
    """Parameters of the LSTM."""

    hidden: int = Field(16, ge=1, description="width of the embedding and of the LSTM state")


SPACE: SearchSpace = {"hidden": Options((8, 16, 32)), **TRAINING_SPACE}


class LstmAttention(Network):
    """A one-layer LSTM (Hochreiter & Schmidhuber 1997) whose states are pooled by attention."""

    def __init__(
        self, *, features: int, window: int, outputs: int, hidden: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(features, hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.pool = RecencyPool(hidden, window)
        self.head = nn.Linear(hidden, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, embedded: Tensor) -> Tensor:
        """Logits [N, K-1] of embedded windows [N, T, H]."""
        states, _ = self.lstm(self.dropout(torch.tanh(embedded)))  # [N, T, H]
        logits: Tensor = self.head(self.dropout(self.pool(states)))
        return logits


def fit(data: Dataset, rows: Rows, *, seed: int, window: int, params: Params) -> SequenceModel:
    """See `fit_sequence`."""
    sizes = {"hidden": params.hidden}
    return fit_sequence(data, rows, LstmAttention, sizes, seed=seed, window=window, params=params)


def load(directory: Path) -> SequenceModel:
    """The inverse of `SequenceModel.save`."""
    return load_sequence(directory, LstmAttention)
