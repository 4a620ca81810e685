"""Stage `export`: one ONNX graph, and the proof that it says what the training libraries say."""

from pathlib import Path

from core.bundle import MODEL
from core.files import replace_directory, sha256_bytes, write_bytes, write_json
from models.dataset import windows
from models.ensemble import Ensemble
from models.onnx_export import OUTPUTS, export
from models.parity import check
from models.quantise import quantise
from pipelines import stage
from pipelines.matrix import training_matrix
from pipelines.params import Params
from pipelines.tables import read_table
from pipelines.workspace import STORE

_ASKED = 64
"""Windows on which an 8-bit graph is timed."""


def work(root: Path, params: Params) -> str:
    """Export the final ensemble and compare it with the libraries on the judged rows, NaN among them."""
    ensemble = Ensemble.load(root / STORE / "train" / "ensemble")
    data = training_matrix(root, params.labels.target)
    rows = read_table(root / STORE / "train" / "nested.parquet")["row"].to_numpy()
    graph, note = export(ensemble), ""
    if params.export.int8:
        asked = windows(data.x, rows[-_ASKED:], ensemble.window)
        smaller = quantise(graph, asked, parity_limit=params.gate.serve.max_parity_base)
        graph, note = smaller.model, f"; 8 bits: {smaller.reason}"
    parity = check(graph, ensemble, data.x, rows, seed=params.train.seed)
    with replace_directory(root / STORE / "export") as out:
        write_bytes(out / MODEL, graph)
        write_json(
            out / "parity.json",
            {
                "model_sha256": sha256_bytes(graph),
                "base_models": list(ensemble.names),
                "largest_difference": parity,
            },
        )
    worst = max(parity[name] for name in parity.keys() - set(OUTPUTS))
    shown = f"base {worst:.1e}, final {parity['probability']:.1e}"
    return f"{len(graph) / 1e3:.0f} kB graph; parity: {shown}{note}"


if __name__ == "__main__":
    stage.run("export", work)
