"""The torch module of the `lstm` family."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LstmAttention(nn.Module):
    """A small LSTM over a window of feature rows, pooled by additive attention.

    forward: scaled float32 [N, T, F] with missing values set to 0 -> log-odds of "up" [N].
    """

    def __init__(self, features: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Linear(features, hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.score = nn.Linear(hidden, 1)
        self.head = nn.Linear(hidden, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, scaled: Tensor) -> Tensor:
        """Log-odds [N] of scaled windows [N, T, F]."""
        states, _ = self.lstm(self.dropout(torch.tanh(self.embed(scaled))))  # [N, T, H]
        attention = torch.softmax(self.score(torch.tanh(states)), dim=1)  # [N, T, 1]
        context = (attention * states).sum(dim=1)  # [N, H]
        logit: Tensor = self.head(self.dropout(context)).squeeze(-1)  # [N]
        return logit
