"""Dilated causal convolutions over the last bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

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
    """Parameters of the temporal convolutional network."""

    channels: int = Field(16, ge=1, description="width of every layer")
    kernel: int = Field(
        2, ge=2, description="steps that a convolution joins; each layer dilates so many times more"
    )
    learning_rate: float = Field(5e-4, gt=0, description="step of AdamW")


SPACE: SearchSpace = {"channels": Options((8, 16, 32)), "kernel": Options((2, 3, 4)), **TRAINING_SPACE}


class Convolutions(Network):
    """A temporal convolutional network (Bai, Kolter & Koltun 2018), evaluated at the last step.

    Layer l is h[t] <- relu(h[t] + b + sum over j < kernel of W_j h[t - j * kernel**l]), with as many layers
    as it takes for the last step to see the first, and steps of zeros before the window where that is more
    than it has. Of each layer the last step needs only every kernel-th of the steps that it needs of the one
    below: a tree, and all that is computed.
    """

    def __init__(
        self, *, features: int, window: int, outputs: int, channels: int, kernel: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.kernel = kernel
        levels = count_levels(window, kernel)
        self.missing = kernel**levels - window
        self.embed = nn.Linear(features, channels)
        self.layers = nn.ModuleList(nn.Linear(kernel * channels, channels) for _ in range(levels))
        self.head = nn.Linear(channels, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, embedded: Tensor) -> Tensor:
        """Logits [N, K-1] of embedded windows [N, T, C]."""
        x = self.dropout(torch.tanh(pad(embedded, (0, 0, self.missing, 0))))  # [N, kernel ** levels, C]
        for layer in self.layers:
            steps = x.shape[1] // self.kernel
            joined = x.reshape(len(x), steps, self.kernel * x.shape[2])  # the oldest step first
            x = torch.relu(x[:, self.kernel - 1 :: self.kernel] + self.dropout(layer(joined)))
        logits: Tensor = self.head(x[:, 0])
        return logits


def count_levels(window: int, kernel: int) -> int:
    """The fewest layers whose receptive field, kernel ** layers steps, covers the window."""
    levels = 1
    while kernel**levels < window:
        levels += 1
    return levels


def fit(data: Dataset, rows: Rows, *, seed: int, window: int, params: Params) -> SequenceModel:
    """See `fit_sequence`."""
    sizes = {"channels": params.channels, "kernel": params.kernel}
    return fit_sequence(data, rows, Convolutions, sizes, seed=seed, window=window, params=params)


def load(directory: Path) -> SequenceModel:
    """The inverse of `SequenceModel.save`."""
    return load_sequence(directory, Convolutions)
