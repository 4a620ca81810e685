"""Attention over the steps of a window, shared by the recurrent families."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RecencyPool(nn.Module):
    """Mean of the steps' states under attention: a linear score plus a learnt bias per age of the step.

    The bias starts at minus the age in bars (as ALiBi, Press et al. 2022): attention that knew
    content alone could not single out the latest bar among `window` similar ones.
    """

    def __init__(self, hidden: int, window: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, hidden).uniform_(-1.0, 1.0) / hidden**0.5)  # [1, H]
        self.bias = nn.Parameter(torch.arange(1.0 - window, 1.0).reshape(1, window, 1))  # [1, T, 1]

    def forward(self, states: Tensor) -> Tensor:
        """Pooled [N, H] of states [N, T, H]."""
        scores = torch.tanh(states) @ self.weight.T + self.bias  # [N, T, 1]
        return (torch.softmax(scores, dim=1) * states).sum(dim=1)
