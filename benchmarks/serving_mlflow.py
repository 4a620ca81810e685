"""The graph saved as an ONNX model of MLflow, by its environment, with the outputs told."""

import sys

import mlflow.onnx
import onnx
from mlflow.models import infer_signature


def main() -> None:
    """Save the model, its input typed, one thread."""
    import numpy as np

    graph, folder, *outputs = sys.argv[1:]
    model = onnx.load(graph)
    # its flavour answers every output there is
    for output in [output for output in model.graph.output if output.name not in outputs]:
        model.graph.output.remove(output)
    shape = [axis.dim_value or 1 for axis in model.graph.input[0].type.tensor_type.shape.dim]
    mlflow.onnx.save_model(
        model,
        folder,
        signature=infer_signature(np.zeros(shape, np.float32)),
        # what this environment already has
        pip_requirements=[],
        onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
    )


if __name__ == "__main__":
    main()
