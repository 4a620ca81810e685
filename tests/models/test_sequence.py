"""Families that read a window: what they learn, what they may see, how they train."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from core.errors import ConfigurationError
from models.dataset import Dataset, windows
from models.families import FAMILIES, sequence
from models.families.attention import RecencyPool
from models.families.base import Options
from models.families.sequence import Block, SequenceModel
from models.families.tcn import Convolutions, count_levels
from models.families.transformer import Encoder
from models.targets import Target

DAY = 86_400_000_000_000
WINDOW = 8
ROWS, TEST = np.arange(1000), np.arange(1000, 1500)
EAGER = {
    "learning_rate": 0.02,
    "dropout": 0.0,
    "weight_decay": 1e-3,
    "batch": 64,
    "max_epochs": 12,
    "patience": 12,
}
"""Parameters that learn a plain pattern in a second, where the defaults are for faint ones."""

SEQUENCES = [name for name, family in FAMILIES.items() if family.sequence]
every_sequence = pytest.mark.parametrize("name", SEQUENCES)


def make_data(kind: str = "direction", lag: int = 1) -> Dataset:
    """x0 now times x1 `lag` bars ago decides the class; no single row and no single column does."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(1500, 3)).astype(np.float32)
    drive = x[:, 0] * np.roll(x[:, 1], lag) + 0.2 * rng.normal(size=1500)
    cuts = [0.0] if kind == "direction" else [-0.3, 0.3]
    times = np.arange(1500, dtype=np.int64) * DAY
    y = np.digitize(drive, cuts).astype(np.float64)
    return Dataset(times, x, y, np.ones(1500), times + DAY, ("a", "b", "c"), Target(kind))  # type: ignore[arg-type]


def fit(name: str, data: Dataset, rows: NDArray[np.int64] = ROWS, seed: int = 3, **params: Any) -> Any:
    return FAMILIES[name].fit(data, rows, seed=seed, window=WINDOW, params=params)


def auc(up: NDArray[np.bool_], p: NDArray[np.float64]) -> float:
    return float((p[up][:, None] > p[~up]).mean())


@pytest.fixture(scope="module")
def data() -> Dataset:
    return make_data()


@pytest.fixture(scope="module")
def eager(data: Dataset) -> dict[str, SequenceModel]:
    return {name: fit(name, data, **EAGER) for name in SEQUENCES}


@every_sequence
def test_an_interaction_across_bars_is_learnt(
    name: str, eager: dict[str, SequenceModel], data: Dataset
) -> None:
    assert auc(data.y[TEST] > 0.5, eager[name].predict(data.x, TEST)[:, 1]) > 0.75


@pytest.mark.parametrize("name", ["logistic", "lightgbm"])
def test_the_last_row_alone_does_not_hold_it(name: str, data: Dataset) -> None:
    assert auc(data.y[TEST] > 0.5, fit(name, data).predict(data.x, TEST)[:, 1]) < 0.6


@every_sequence
def test_three_classes_are_learnt_and_their_probabilities_sum_to_one(name: str) -> None:
    data = make_data("barrier")
    p = fit(name, data, **EAGER).predict(data.x, TEST)
    assert p.shape == (len(TEST), 3)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    for number in (0, 2):
        assert auc(data.y[TEST] == number, p[:, number]) > 0.7


@every_sequence
def test_rows_after_the_one_predicted_and_before_its_window_change_nothing(
    name: str, eager: dict[str, SequenceModel], data: Dataset
) -> None:
    changed = data.x.copy()
    changed[1201:] = 1e6
    changed[: 1200 - WINDOW + 1] = np.nan
    row = np.array([1200])
    np.testing.assert_array_equal(eager[name].predict(changed, row), eager[name].predict(data.x, row))
    changed[1200 - WINDOW + 1] = 1e3
    assert (eager[name].predict(changed, row) != eager[name].predict(data.x, row)).any()


@every_sequence
def test_bars_before_the_first_are_missing(name: str, eager: dict[str, SequenceModel], data: Dataset) -> None:
    empty = np.full((WINDOW - 1, 3), np.nan, dtype=np.float32)
    early = np.arange(WINDOW + 2)
    np.testing.assert_allclose(
        eager[name].predict(data.x, early),
        eager[name].predict(np.concatenate([empty, data.x]), early + WINDOW - 1),
        rtol=0,
        atol=1e-12,
    )


@every_sequence
def test_projecting_each_row_once_says_what_whole_windows_say(
    name: str, eager: dict[str, SequenceModel], data: Dataset
) -> None:
    model, rows = eager[name], np.array([1490, 3, 700, 701])  # in any order
    scaled = np.nan_to_num((windows(data.x, rows, WINDOW) - model.mean) / model.scale)
    with torch.no_grad():
        logits = model.network(model.network.embed(torch.from_numpy(scaled))).double().numpy()
    expected = 1.0 / (1.0 + np.exp(-logits[:, 0]))
    np.testing.assert_allclose(model.predict(data.x, rows)[:, 1], expected, rtol=0, atol=1e-6)


@every_sequence
def test_the_caller_s_torch_is_left_as_it_was_and_does_not_matter(name: str, data: Dataset) -> None:
    short = {**EAGER, "max_epochs": 1}
    torch.manual_seed(1)
    first, drawn = fit(name, data, **short), torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))
    torch.manual_seed(99)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        second = fit(name, data, **short)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert not torch.are_deterministic_algorithms_enabled()
    np.testing.assert_array_equal(first.predict(data.x, TEST), second.predict(data.x, TEST))
    assert (fit(name, data, seed=4, **short).predict(data.x, TEST) != first.predict(data.x, TEST)).any()


@every_sequence
def test_without_an_epoch_it_is_the_weighted_rate_of_every_class(name: str) -> None:
    data = make_data("barrier")
    weighted = replace(data, w=np.where(data.y == 2, 3.0, 1.0))
    rates = np.bincount(data.y[ROWS].astype(int), weighted.w[ROWS]) / weighted.w[ROWS].sum()
    for mode in ("none", "balanced"):  # balance is given back
        p = fit(name, weighted, max_epochs=0, class_weight=mode).predict(data.x, TEST)
        np.testing.assert_allclose(p, np.tile(rates, (len(TEST), 1)), rtol=0, atol=1e-6)


@every_sequence
def test_the_label_of_a_row_without_weight_teaches_nothing(name: str, data: Dataset) -> None:
    half = replace(data, w=np.where(np.arange(1500) % 2 == 0, 2.0, 0.0))
    other = replace(half, y=np.where(half.w > 0.0, half.y, 1.0 - half.y))
    settings = {**EAGER, "max_epochs": 1}
    np.testing.assert_array_equal(
        fit(name, half, **settings).predict(data.x, TEST), fit(name, other, **settings).predict(data.x, TEST)
    )


def count(
    losses: list[float], patience: int, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, int]:
    """Epochs chosen, and looks at the inner block, when the losses there are `losses`."""
    told = iter(losses)
    seen: list[float] = []

    def next_loss(*_: Any) -> float:
        seen.append(next(told))
        return seen[-1]

    monkeypatch.setattr(sequence, "weighted_log_loss", next_loss)
    sizes = {"features": 3, "window": 4, "outputs": 1, "channels": 2, "kernel": 2}
    params = sequence.SequenceParams(patience=patience, max_epochs=len(losses) - 1)
    chosen = sequence.count_epochs(
        data, ROWS[:100], ROWS[100:130], Convolutions, sizes, seed=1, params=params
    )
    return chosen, len(seen)


@pytest.mark.parametrize(
    ("losses", "patience", "chosen", "looks"),
    [
        ([0.70, 0.69, 0.68, 0.69, 0.69, 0.1], 2, 2, 5),
        ([0.70, 0.71, 0.72, 0.1], 2, 0, 3),
        ([0.70, 0.71, 0.69, 0.70, 0.68], 2, 4, 5),
        ([0.70], 3, 0, 1),
    ],
)
def test_the_inner_block_decides_the_epochs(
    losses: list[float],
    patience: int,
    chosen: int,
    looks: int,
    data: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert count(losses, patience, data, monkeypatch) == (chosen, looks)


@every_sequence
def test_what_lies_outside_the_rows_is_never_read(name: str, data: Dataset) -> None:
    rows = np.arange(300, 800)
    x, y = data.x.copy(), data.y.copy()
    x[800:], x[: 300 - WINDOW + 1], y[800:], y[:300] = np.nan, 1e9, 1.0, 0.0
    settings = {**EAGER, "max_epochs": 2}
    np.testing.assert_array_equal(
        fit(name, data, rows, **settings).predict(data.x, TEST),
        fit(name, replace(data, x=x, y=y), rows, **settings).predict(data.x, TEST),
    )


@every_sequence
def test_noise_may_get_no_epoch_at_all(name: str, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    count_epochs = sequence.count_epochs

    def record(*args: Any, **kwargs: Any) -> int:
        chosen.append(count_epochs(*args, **kwargs))
        return chosen[-1]

    monkeypatch.setattr(sequence, "count_epochs", record)
    for seed in range(4):
        coins = (np.random.default_rng(seed).random(1500) < 0.5).astype(float)
        fit(name, replace(data, y=coins), ROWS[:400], seed, patience=1)
    assert min(chosen) == 0


def test_windows_are_views_of_the_rows() -> None:
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    x[7, 2] = np.nan
    mean, scale = np.float32([0.1, -2.0, 0.0, 1.0]), np.float32([1.0, 2.0, 0.5, 3.0])
    for rows in (np.arange(50), np.array([30, 12, 31])):
        block = Block.of(x, rows, mean, scale, 6)
        views = block.views(block.scaled)
        assert views.data_ptr() == block.scaled.data_ptr()
        assert block.scaled.numel() == (rows.max() - rows.min() + 6) * 4
        expected = np.nan_to_num((windows(x, rows, 6) - mean) / scale)
        np.testing.assert_array_equal(views.index_select(0, block.numbers(rows)).numpy(), expected)


class Largest(TorchDispatchMode):
    """Records the most bytes that any tensor holds."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return made


@every_sequence
def test_memory_is_that_of_a_batch_not_of_all_windows(name: str) -> None:
    rng, n, features = np.random.default_rng(0), 4000, 40
    x = rng.normal(size=(n, features)).astype(np.float32)
    times = np.arange(n, dtype=np.int64) * DAY
    names = tuple(f"f{k}" for k in range(features))
    data = Dataset(times, x, (rng.random(n) < 0.5).astype(float), np.ones(n), times + DAY, names)
    with Largest() as largest:
        model = fit(name, data, np.arange(n), max_epochs=1)
        model.predict(x, np.arange(n))
    every_window = n * WINDOW * features * 4
    assert largest.bytes < every_window / 4


@every_sequence
def test_the_largest_network_of_the_search_space_can_be_fitted(name: str, data: Dataset) -> None:
    space = FAMILIES[name].search_space()
    largest = {k: where.values[-1] for k, where in space.items() if isinstance(where, Options)}
    assert largest
    assert np.isfinite(fit(name, data, ROWS[:200], **largest, max_epochs=1).predict(data.x, TEST)).all()


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ConfigurationError, match="3 heads do not share a width of 16"):
        FAMILIES["transformer"].read_params({"heads": 3})


# The networks against torch's own layers and plain loops.


@pytest.fixture
def drawn() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(("window", "kernel"), [(8, 2), (32, 2), (11, 2), (9, 3), (20, 3), (5, 4)])
def test_the_tree_is_the_last_step_of_dilated_convolutions(window: int, kernel: int, drawn: None) -> None:
    tree = Convolutions(features=5, window=window, outputs=2, channels=6, kernel=kernel).eval()
    embedded = torch.randn(3, window, 6)
    x = torch.tanh(nn.functional.pad(embedded.transpose(1, 2), (tree.missing, 0)))  # [N, C, T]
    for level, layer in enumerate(tree.layers):
        convolution = nn.Conv1d(6, 6, kernel, dilation=kernel**level)
        weight: Any = layer.weight
        convolution.weight.copy_(weight.reshape(6, kernel, 6).transpose(1, 2))
        convolution.bias.copy_(layer.bias)  # type: ignore[union-attr, arg-type]
        causal = nn.functional.pad(x, ((kernel - 1) * kernel**level, 0))
        x = torch.relu(x + convolution(causal))
    torch.testing.assert_close(tree(embedded), tree.head(x[:, :, -1]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_the_receptive_field_covers_the_window(kernel: int) -> None:
    for window in range(2, 70):
        levels = count_levels(window, kernel)
        assert kernel**levels >= window
        assert levels == 1 or kernel ** (levels - 1) < window


@pytest.mark.parametrize("layers", [1, 2])
def test_the_encoder_is_torch_s_pre_norm_encoder_read_at_the_last_step(layers: int, drawn: None) -> None:
    encoder = Encoder(features=5, window=9, outputs=2, width=8, heads=2, layers=layers).eval()
    for parameter in encoder.parameters():
        parameter.normal_(0.0, 0.5)
    embedded = torch.randn(4, 9, 8)
    x = embedded + encoder.position
    for layer in encoder.layers:
        own: Any = layer
        other = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True).eval()
        other.self_attn.in_proj_weight.copy_(torch.cat([own.query.weight, own.key.weight, own.value.weight]))
        other.self_attn.in_proj_bias.zero_()
        pairs = [
            (other.self_attn.out_proj, own.mix),
            (other.linear1, own.widen),
            (other.linear2, own.narrow),
            (other.norm1, own.norm_1),
            (other.norm2, own.norm_2),
        ]
        for theirs, ours in pairs:
            theirs.load_state_dict(ours.state_dict())
        x = other(x)
    expected = encoder.head(encoder.norm(x[:, -1]))
    torch.testing.assert_close(encoder(embedded), expected, rtol=0, atol=1e-5)


def test_attention_pools_by_content_and_age(drawn: None) -> None:
    pool, states = RecencyPool(3, 5), torch.randn(2, 5, 3)
    for n in range(2):
        scores = [float(pool.weight[0] @ torch.tanh(states[n, t])) + (t - 4) for t in range(5)]
        shares = np.exp(scores) / np.exp(scores).sum()
        expected = sum(share * states[n, t].numpy() for t, share in enumerate(shares))
        np.testing.assert_allclose(pool(states)[n].numpy(), expected, atol=1e-6)
