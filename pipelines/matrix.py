"""The training matrix of a workspace, from what the features and labels stages stored."""

from pathlib import Path

import numpy as np

from models.dataset import Dataset
from models.targets import Kind
from pipelines import stored


def training_matrix(root: Path, target: Kind) -> Dataset:
    """Features and labels joined on bar time, float32, weighted."""
    labels = stored.labels(root)
    weights = labels["weight"].to_numpy(dtype=np.float64)
    return Dataset.from_frames(stored.feature_matrix(root), labels, weights, target)
