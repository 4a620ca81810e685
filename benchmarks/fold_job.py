"""The program that `benchmarks.models` times: the folds of a workspace, and the final fits.

`python -m benchmarks.fold_job ROOT PARAMETERS`: the stages up to the labels have run in ROOT.
"""

import sys
from pathlib import Path

from core.settings import disable_telemetry
from evaluation.splits import walk_forward
from models.training import out_of_fold
from pipelines.matrix import training_matrix
from pipelines.params import load


def main() -> None:
    """Predict every test block, in as many processes as the parameters say."""
    disable_telemetry()
    root, params = Path(sys.argv[1]), load(Path(sys.argv[2]))
    data, train = training_matrix(root, params.labels.target), params.train
    folds = walk_forward(data.times, data.t1, **params.splits.walk_forward())
    own = {name: train.family_params(name) for name in train.families}
    found = out_of_fold(
        data, folds, train.families, own, seed=train.seed, window=train.window, processes=train.processes
    )
    assert len(found.predictions) == sum(len(fold.test) for fold in folds)


if __name__ == "__main__":
    main()
