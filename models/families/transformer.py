"""A small Transformer encoder over the last bars, read at the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

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
    from typing import Self

    from models.dataset import Dataset, Rows


class Params(SequenceParams):
    """Parameters of the Transformer."""

    width: int = Field(16, ge=1, description="width of the model, a multiple of heads")
    heads: int = Field(2, ge=1, description="attention heads per layer")
    layers: int = Field(1, ge=1, description="encoder layers")
    learning_rate: float = Field(5e-4, gt=0, description="step of AdamW")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not share a width of {self.width}: choose a multiple")
        return self


SPACE: SearchSpace = {"width": Options((8, 16, 32)), "layers": Options((1, 2)), **TRAINING_SPACE}


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward net, each over normed inputs and added to them (pre-norm)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.mix = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, steps: int) -> Tensor:
        """The last `steps` steps [N, S, E] of the layer's output for x [N, T, E], which sees all T."""
        normed = self.norm_1(x)
        query, key, value = (
            layer(part).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [N, heads, S or T, E / heads]
            for layer, part in ((self.query, normed[:, -steps:]), (self.key, normed), (self.value, normed))
        )
        seen = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)  # [N, S, E]
        x = x[:, -steps:] + self.dropout(self.mix(seen))
        bent = torch.relu(self.widen(self.norm_2(x)))
        added: Tensor = x + self.dropout(self.narrow(bent))
        return added


class Encoder(Network):
    """A pre-norm Transformer encoder (Vaswani et al. 2017; Xiong et al. 2020) with learnt positions.

    Every step sees the whole window, all of it past; the prediction is read at the last step, so the last
    layer answers for that one alone.
    """

    def __init__(
        self,
        *,
        features: int,
        window: int,
        outputs: int,
        width: int,
        heads: int,
        layers: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.position = nn.Parameter(torch.randn(window, width) * 0.5)  # [T, E]
        self.layers = nn.ModuleList(EncoderLayer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, embedded: Tensor) -> Tensor:
        """Logits [N, K-1] of embedded windows [N, T, E]."""
        x = self.dropout(embedded + self.position)
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, x.shape[1] if number < len(self.layers) else 1)  # [N, T, E], at last [N, 1, E]
        logits: Tensor = self.head(self.norm(x[:, -1]))
        return logits


def fit(data: Dataset, rows: Rows, *, seed: int, window: int, params: Params) -> SequenceModel:
    """See `fit_sequence`."""
    sizes = {"width": params.width, "heads": params.heads, "layers": params.layers}
    return fit_sequence(data, rows, Encoder, sizes, seed=seed, window=window, params=params)


def load(directory: Path) -> SequenceModel:
    """The inverse of `SequenceModel.save`."""
    return load_sequence(directory, Encoder)
