"""The torch module of the `lstm` family."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RecencyScore(nn.Module):
    """Attention score of each step's state: a linear one plus a learnt bias per age of the step.

    The bias starts at minus the age in bars (as ALiBi, Press et al. 2022): attention that knew
    content alone could not single out the latest bar among `window` similar ones.
    """

    def __init__(self, hidden: int, window: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, hidden).uniform_(-1.0, 1.0) / hidden**0.5)  # [1, H]
        self.bias = nn.Parameter(torch.arange(1.0 - window, 1.0).reshape(window, 1, 1))  # [T, 1, 1]

    def forward(self, states: Tensor) -> Tensor:
        """Scores [N, T, 1] of states [N, T, H]."""
        return states @ self.weight.T + self.bias.transpose(0, 1)


class LstmAttention(nn.Module):
    """A small LSTM over a window of feature rows, pooled by attention.

    forward: scaled float32 [N, T, F] with missing values set to 0 -> log-odds of "up" [N].
    T is `window`; a module made with window 1 attends by content alone and takes any T.
    """

    def __init__(self, features: int, hidden: int, dropout: float, window: int = 1) -> None:
        super().__init__()
        self.embed = nn.Linear(features, hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.score = RecencyScore(hidden, window)
        self.head = nn.Linear(hidden, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, scaled: Tensor) -> Tensor:
        """Log-odds [N] of scaled windows [N, T, F]."""
        states, _ = self.lstm(self.dropout(torch.tanh(self.embed(scaled))))  # [N, T, H]
        attention = torch.softmax(self.score(torch.tanh(states)), dim=1)  # [N, T, 1]
        context = (attention * states).sum(dim=1)  # [N, H]
        logit: Tensor = self.head(self.dropout(context)).squeeze(-1)  # [N]
        return logit
