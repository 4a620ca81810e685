"""Assembling the exported bundle: graph, golden cases, stream state, reference and manifest.

Equal arguments give equal bytes in every file, so the manifest names the model by content.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.bundle import (
    GOLDEN,
    HASHED,
    MODEL,
    REFERENCE,
    SCHEMA_VERSION,
    STATE,
    FeatureDefinition,
    Manifest,
    pack_state,
    verify,
    write_manifest,
)
from core.errors import ArtifactError
from core.files import replace_directory, sha256_file, write_bytes, write_text
from core.market_hours import MarketHours
from core.signal import Thresholds
from models.dataset import Features, Floats, Rows
from models.ensemble import Predictions
from models.onnx_run import Runner

GOLDEN_TOLERANCE = 1e-5


@dataclass(frozen=True)
class BundleFacts:
    """What the manifest says of a model besides its hashes; each is explained in core.bundle.Manifest."""

    model: str
    symbol: str
    timeframe: str
    as_of: str
    definitions: Mapping[str, str]
    warmup: int
    window: int
    classes: Sequence[str]
    base_models: Sequence[str]
    thresholds: Thresholds
    label: Mapping[str, Any]
    parity: Mapping[str, float]
    data_hash: str
    params_hash: str
    tradable: bool
    reasons: Sequence[str]
    hours: MarketHours | None = None


@dataclass(frozen=True)
class Reference:
    """What drift is measured against: bar closes UTC ns [n], features float32 [n, F], probability [n].

    `probability` is what this very model says of these rows: live predictions come from the same function,
    while out-of-fold ones come from other fits and would differ without any drift.
    """

    times: Rows
    x: Features
    probability: Floats


def build(
    directory: Path,
    facts: BundleFacts,
    *,
    model: bytes,
    checkpoint: bytes,
    state_window: Features,
    golden: Features,
    reference: Reference,
) -> Manifest:
    """Write the bundle to `directory`, replacing what was there in one step; returns its manifest.

    `checkpoint` is the feature stream at the as-of bar, `state_window` its last feature rows [T, F], `golden`
    a few windows [k, T, F] whose answers are stored. ArtifactError: shapes or classes that do not fit the
    facts.
    """
    _check_shapes(facts, state_window, golden, reference)
    with replace_directory(directory) as fresh:
        write_bytes(fresh / MODEL, model)
        write_text(fresh / GOLDEN, golden_text(golden, _answers(facts, model, golden)))
        write_bytes(fresh / STATE, pack_state(checkpoint, state_window))
        write_bytes(fresh / REFERENCE, reference_bytes(reference, list(facts.definitions)))
        manifest = _manifest(facts, {name: sha256_file(fresh / name) for name in HASHED})
        write_manifest(fresh, manifest)
        verify(fresh)
    return manifest


def golden_text(golden: Features, answers: Predictions) -> str:
    """golden.json: windows [k, T, F] with NaN as null, what the graph answers, and the tolerance."""
    case = {
        "inputs": [[[_number(v) for v in row] for row in window] for window in golden],
        "probability": answers.probability.tolist(),
        "base_probabilities": answers.base.tolist(),
        "confidence": answers.confidence.tolist(),
        "class_probabilities": answers.classes.tolist(),
        "tolerance": GOLDEN_TOLERANCE,
    }
    return json.dumps(case, sort_keys=True, allow_nan=False) + "\n"


def golden_rows(x: Features, rows: Rows, cases: int = 8) -> Rows:
    """A few of `rows` [k], evenly spread, the row with most missing values among them, ascending."""
    spread = rows[np.linspace(0, len(rows) - 1, min(cases, len(rows))).astype(np.int64)]
    holes = rows[np.argmax(np.isnan(x[rows]).sum(axis=1))]
    return np.unique(np.append(spread, holes))


def reference_bytes(reference: Reference, names: Sequence[str]) -> bytes:
    """reference.parquet: column bar_time (UTC), one float32 column per feature, probability float64."""
    columns: dict[str, Any] = {"bar_time": pa.array(reference.times, pa.timestamp("ns", tz="UTC"))}
    for k, name in enumerate(names):
        columns[name] = pa.array(np.ascontiguousarray(reference.x[:, k]), pa.float32())
    columns["probability"] = pa.array(reference.probability, pa.float64())
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def _check_shapes(facts: BundleFacts, state: Features, golden: Features, reference: Reference) -> None:
    features = len(facts.definitions)
    shapes: dict[str, tuple[NDArray[Any], tuple[int, ...]]] = {
        "state window": (state, (facts.window, features)),
        "golden windows": (golden, (len(golden), facts.window, features)),
        "reference features": (reference.x, (len(reference.times), features)),
        "reference probability": (reference.probability, (len(reference.times),)),
    }
    wrong = [f"{what} {a.shape} should be {shape}" for what, (a, shape) in shapes.items() if a.shape != shape]
    if wrong or not len(golden):
        raise ArtifactError(
            f"bundle of {facts.model}: {'; '.join(wrong) or '0 golden windows'}: build every part from one "
            "feature list and one window"
        )


def _answers(facts: BundleFacts, model: bytes, golden: Features) -> Predictions:
    """What the graph says; ArtifactError when it has another number of classes than the facts name."""
    answers = Runner(model)(golden)
    if (found := answers.classes.shape[1]) != len(facts.classes):
        raise ArtifactError(
            f"bundle of {facts.model}: the graph has {found} classes, named are {', '.join(facts.classes)}: "
            "export again after labels and training"
        )
    return answers


def _manifest(facts: BundleFacts, files: dict[str, str]) -> Manifest:
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model=facts.model,
        symbol=facts.symbol,
        timeframe=facts.timeframe,
        as_of=facts.as_of,
        files=files,
        features=[FeatureDefinition(name, text) for name, text in facts.definitions.items()],
        warmup=facts.warmup,
        window=facts.window,
        classes=list(facts.classes),
        base_models=list(facts.base_models),
        thresholds=facts.thresholds,
        label=msgspec.to_builtins(dict(facts.label)),
        parity=dict(facts.parity),
        data_hash=facts.data_hash,
        params_hash=facts.params_hash,
        tradable=facts.tradable,
        reasons=list(facts.reasons),
        hours=facts.hours,
    )


def _number(value: np.float32) -> float | None:
    # The shortest text of a float32 reads back as the same float32 and halves the file.
    return None if np.isnan(value) else float(str(value))
