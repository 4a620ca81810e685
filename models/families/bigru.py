"""A bidirectional GRU over the last bars, pooled by attention."""

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
    """Parameters of the bidirectional GRU."""

    hidden: int = Field(
        8, ge=1, description="width of the state of each direction; the embedding has twice that"
    )
    # Twice the batch and the step of the others: torch's GRU costs per step, hardly per window.
    batch: int = Field(256, ge=1, description="windows per step")
    learning_rate: float = Field(2e-3, gt=0, description="step of AdamW")


SPACE: SearchSpace = {"hidden": Options((4, 8, 16)), **TRAINING_SPACE}


class BiGru(Network):
    """A bidirectional GRU (Cho et al. 2014) whose states are pooled by attention.

    The window ends at the row that is predicted, so reading it backwards looks at nothing later than that.
    """

    def __init__(
        self, *, features: int, window: int, outputs: int, hidden: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(features, 2 * hidden)
        self.gru = nn.GRU(2 * hidden, hidden, batch_first=True, bidirectional=True)
        self.pool = RecencyPool(2 * hidden, window)
        self.head = nn.Linear(2 * hidden, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, embedded: Tensor) -> Tensor:
        """Logits [N, K-1] of embedded windows [N, T, 2H]."""
        states, _ = self.gru(self.dropout(torch.tanh(embedded)))  # [N, T, 2H]
        logits: Tensor = self.head(self.dropout(self.pool(states)))
        return logits


def fit(data: Dataset, rows: Rows, *, seed: int, window: int, params: Params) -> SequenceModel:
    """See `fit_sequence`."""
    sizes = {"hidden": params.hidden}
    return fit_sequence(data, rows, BiGru, sizes, seed=seed, window=window, params=params)


def load(directory: Path) -> SequenceModel:
    """The inverse of `SequenceModel.save`."""
    return load_sequence(directory, BiGru)
