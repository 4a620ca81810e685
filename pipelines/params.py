"""The only reader of params.yaml: text → frozen, validated blocks, all faults reported together."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from core.errors import ConfigurationError
from core.files import canonical_json, sha256_bytes, write_text
from evaluation.verdict import ServeRules, TradeRules
from models.targets import PRIMARY_SIDE

PARAMS_FILE = "params.yaml"
_MISSPELT = {"extra_forbidden", "unexpected_keyword_argument"}


class Block(BaseModel):
    """A block of params.yaml: exact keys, exact types, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _day(value: object) -> object:
    if isinstance(value, date):
        raise ValueError("quote the day, as in '2007-06-29': DVC cannot read a bare date")
    if isinstance(value, str):
        date.fromisoformat(value)
    return value


Day = Annotated[str, BeforeValidator(_day)]


class Data(Block):
    """Which bars to use. `until` is the as-of day: nothing later is read."""

    source: str
    path: str | None
    symbol: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,31}$")
    timeframe: str = Field(pattern=r"^(auto|[1-9]\d*[smhdw])$")
    calendar: str
    start: Day | None
    until: Day | None
    repair: tuple[str, ...] = Field(strict=False)

    @model_validator(mode="after")
    def _ordered(self) -> "Data":
        if self.start and self.until and self.start >= self.until:
            raise ValueError(f"start {self.start} must be before until {self.until}")
        if self.source == "csv" and not self.path:
            raise ValueError("source csv needs path: a CSV or parquet file")
        if self.path and self.source == "arch_sp500":
            raise ValueError(f"path {self.path} is not read from source arch_sp500: set data.source=csv")
        return self


class Validate(Block):
    """Limits of the data gate."""

    min_rows: PositiveInt
    max_quarantined: int = Field(ge=0)
    max_jump: float = Field(gt=0)
    stale_bars: int = Field(ge=2)


class Features(Block):
    """Which features to build: a catalogue, less `exclude`, and expressions of the user's own."""

    catalog: str
    user: dict[str, str]
    exclude: tuple[str, ...] = Field(strict=False)


class Labels(Block):
    """What is predicted; `horizon` is in bars, barriers in units of volatility."""

    kind: Literal["fixed_horizon", "triple_barrier"]
    classes: Literal[2, 3]
    primary: str | None
    horizon: int = Field(ge=1)
    take_profit: float = Field(gt=0)
    stop_loss: float = Field(gt=0)
    volatility_span: int = Field(ge=2)
    touch: Literal["close", "range"]

    @model_validator(mode="after")
    def _three_classes(self) -> "Labels":
        if self.classes == 3 and self.kind != "triple_barrier":
            raise ValueError("classes 3 needs kind triple_barrier: a fixed horizon ends up or down")
        if self.classes == 3 and self.primary is not None:
            raise ValueError("classes 3 and primary exclude each other: a primary signal is right or wrong")
        return self

    @property
    def target(self) -> Literal["direction", "barrier", "meta"]:
        """The kind of target; `models.targets` says what each predicts."""
        if self.primary is not None:
            return "meta"
        return "barrier" if self.classes == 3 else "direction"

    @property
    def features(self) -> dict[str, str]:
        """The features that the labels themselves need."""
        return {} if self.primary is None else {PRIMARY_SIDE: self.primary}

    def definition(self) -> dict[str, Any]:
        """What decides a label; a fixed horizon has no barriers, and most models no primary signal."""
        given = self.model_dump(include={"kind", "horizon"} if self.kind == "fixed_horizon" else None)
        if self.classes == 2:
            given.pop("classes", None)
        if self.primary is None:
            given.pop("primary", None)
            return given
        return given | {"primary": self.primary}


class Splits(Block):
    """Purged walk-forward, in rows, and the combinatorial validation that may stand beside it."""

    scheme: Literal["anchored", "rolling"]
    train_rows: PositiveInt
    test_rows: PositiveInt
    max_folds: int = Field(ge=3)
    embargo: int = Field(ge=0)
    groups: int = Field(ge=0)
    test_groups: PositiveInt

    @model_validator(mode="after")
    def _fewer_tested(self) -> "Splits":
        if self.groups and not self.test_groups < self.groups:
            raise ValueError(f"groups {self.groups} must be 0 or more than test_groups {self.test_groups}")
        return self

    def walk_forward(self) -> dict[str, Any]:
        """The arguments of `evaluation.splits.walk_forward`."""
        return self.model_dump(exclude={"groups", "test_groups"})


class Train(Block):
    """Families to train and their own parameters, passed on to each family."""

    families: tuple[str, ...] = Field(strict=False, min_length=2)
    seed: int = Field(ge=0)
    window: int = Field(ge=2)
    processes: int = Field(ge=1)
    sample_weights: Literal["uniqueness", "equal"]
    base_rate: dict[str, Any]
    logistic: dict[str, Any]
    lightgbm: dict[str, Any]
    catboost: dict[str, Any]
    xgboost: dict[str, Any]
    random_forest: dict[str, Any]
    lstm: dict[str, Any]
    transformer: dict[str, Any]
    tcn: dict[str, Any]
    bigru: dict[str, Any]

    @field_validator("families")
    @classmethod
    def _has_reference(cls, families: tuple[str, ...]) -> tuple[str, ...]:
        if "base_rate" not in families:
            raise ValueError("must hold base_rate, which every other model is judged against")
        if twice := sorted({name for name in families if families.count(name) > 1}):
            raise ValueError(f"names {', '.join(twice)} twice: keep one")
        return families

    def family_params(self, family: str) -> dict[str, Any]:
        """The parameters of one family; none for a family without a block."""
        return dict(getattr(self, family, {}))


class Ensemble(Block):
    """How base models are combined and calibrated."""

    method: Literal["stack", "blend", "vote"]
    half_life: float = Field(gt=0)
    shrinkage: float = Field(ge=0)
    calibration: Literal["sigmoid", "isotonic", "temperature"]


class Backtest(Block):
    """From probability to position to money; costs in basis points of traded notional."""

    buy: float = Field(gt=0.5, lt=1)
    strong_buy: float = Field(gt=0.5, lt=1)
    sell: float = Field(gt=0, lt=0.5)
    strong_sell: float = Field(gt=0, lt=0.5)
    allow_short: bool
    commission_bps: float = Field(ge=0)
    slippage_bps: float = Field(ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> "Backtest":
        if not self.strong_sell < self.sell < self.buy < self.strong_buy:
            raise ValueError("must hold: strong_sell < sell < buy < strong_buy")
        return self


class Evidence(Block):
    """How much is drawn at random for the evidence."""

    replications: int = Field(ge=100)


class Export(Block):
    """What the exported graph may be beyond what was trained."""

    int8: bool


class Gate(Block):
    """Acceptance rules: what a model must show to serve, and to trade."""

    serve: ServeRules
    trade: TradeRules


class Promotion(Block):
    """When a challenger replaces the champion: `tolerance` is in nats of mean log-loss on paired rows.

    `worse_p` is the one-sided p at or under which the paired test calls it worse.
    """

    min_rows: PositiveInt
    tolerance: float = Field(ge=0)
    worse_p: float = Field(ge=0, lt=1)


class Drift(Block):
    """How a live window is judged, and when severity becomes a retrain."""

    window_rows: PositiveInt
    reference_rows: PositiveInt
    quantile: float = Field(gt=0, lt=1)
    share_limit: float = Field(gt=0, le=1)
    min_rows: PositiveInt
    prediction_margin: float = Field(gt=0)
    confirmations: PositiveInt
    cooldown_hours: float = Field(ge=0)
    fresh_share: float = Field(ge=0, le=1)
    performance_level: float = Field(gt=0, lt=1)
    performance_min_rows: PositiveInt


class Params(Block):
    """The whole of params.yaml."""

    data: Data
    validate_: Validate = Field(alias="validate")
    features: Features
    labels: Labels
    splits: Splits
    train: Train
    ensemble: Ensemble
    backtest: Backtest
    evidence: Evidence
    export: Export
    gate: Gate
    promotion: Promotion
    drift: Drift

    @model_validator(mode="after")
    def _one_primary(self) -> "Params":
        if self.labels.features.keys() & self.features.user.keys():
            raise ValueError(f"features.user.{PRIMARY_SIDE} is taken by labels.primary: name yours otherwise")
        return self

    @property
    def all_features(self) -> dict[str, str]:
        """The features that are built besides the catalogue: the user's and those the labels need."""
        return self.features.user | self.labels.features

    def select_features(self) -> dict[str, str]:
        """Canonical expression of every feature to build; ConfigurationError by parameter at fault."""
        from features.selection import select

        try:
            return select(self.features.catalog, self.all_features, self.features.exclude)
        except ConfigurationError as error:
            raise ConfigurationError([_of_primary(fault) for fault in error.faults]) from error

    @property
    def digest(self) -> str:
        """SHA-256 of the parameters that shape a model; which bars it saw is the data hash's business."""
        shaping = {"features", "labels", "splits", "train", "ensemble", "backtest", "export", "gate"}
        tree = self.model_dump(mode="json", include=shaping, exclude={"train": {"processes"}})
        return sha256_bytes(canonical_json(tree).encode())


class _OneOfEach(yaml.SafeLoader):  # type: ignore[misc]
    """YAML in which a key given twice is a fault: the last one would win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys differ."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if key != "<<" and keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"{twice} is given twice: keep one", node.start_mark
            )
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def load(path: Path = Path(PARAMS_FILE)) -> Params:
    """Read and check a parameter file; ConfigurationError lists every fault."""
    return check(read_tree(path))


def read_tree(path: Path) -> dict[str, Any]:
    """The raw tree of a parameter file."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _OneOfEach)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path} does not exist: run from the checkout's root") from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}): restore it from git") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigurationError(f"{path} holds {type(tree).__name__}: expected a mapping of blocks")
    return tree


def check(tree: Mapping[str, Any]) -> Params:
    """Validate a tree of parameters."""
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise ConfigurationError([_fault(dict(item)) for item in error.errors()]) from error


def check_names(params: Params) -> None:
    """ConfigurationError for sources, families, their parameters and features that do not exist or parse.

    Apart from `check`, since asking a family for its parameters loads its library.
    """
    from data.sources import source_names
    from models.families import FAMILIES

    data, train = params.data, params.train
    faults = []
    if data.source not in source_names():
        faults.append(f"data.source {data.source!r} is unknown: use one of {', '.join(source_names())}")
    faults += [
        f"train.families: {name!r} is unknown: use one of {', '.join(FAMILIES)}"
        for name in train.families
        if name not in FAMILIES
    ]
    for name, family in FAMILIES.items():
        if given := train.family_params(name):
            try:
                family.read_params(given)
            except ConfigurationError as error:
                faults += error.faults
    try:
        params.select_features()
    except ConfigurationError as error:
        faults += error.faults
    if faults:
        raise ConfigurationError(faults)


def _of_primary(fault: str) -> str:
    """A fault of the feature that a primary signal becomes, under the name of the parameter it comes from."""
    own = f"features.user.{PRIMARY_SIDE}: "
    if not fault.startswith(own):
        return fault
    said = fault.removeprefix(own).replace("drop one of them", "wrap it in sign(…), or exclude that one")
    return f"labels.primary: {said}"


def _fault(item: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] in _MISSPELT:
        return f"{place} is not a parameter{_suggest(place)}"
    if item["type"] == "missing":
        return f"{place} is missing: restore it from the version of params.yaml in git"
    message = str(item["msg"]).removeprefix("Value error, ")
    shown = "" if isinstance(item["input"], Mapping) else f" = {item['input']!r}"
    return f"{place}{shown}: {message}"


def _suggest(place: str) -> str:
    close = difflib.get_close_matches(place, list(known_names()), n=1, cutoff=0.6)
    return f": did you mean {close[0]}?" if close else f"; the blocks are {', '.join(_blocks())}"


def _blocks() -> dict[str, Any]:
    return {info.alias or name: info.annotation for name, info in Params.model_fields.items()}


def known_names() -> Iterator[str]:
    """Every parameter as block.key, in file order."""
    for name, block in _blocks().items():
        yield from (f"{name}.{key}" for key in getattr(block, "model_fields", {}))


def parse_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """Read ["block.key=value", …] with YAML values; ConfigurationError lists every malformed one."""
    faults, overrides = [], {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or "." not in name:
            faults.append(f"--set {text}: expected block.key=value, such as labels.horizon=10")
            continue
        try:
            parsed = yaml.load(value, _OneOfEach)
            overrides[name.strip()] = parsed.isoformat() if isinstance(parsed, date) else parsed
        except (yaml.YAMLError, ValueError) as error:  # ValueError: a day that no calendar has
            faults.append(f"--set {text}: {value!r} is not a YAML value ({_first_line(error)}); quote it")
    if faults:
        raise ConfigurationError(faults)
    return overrides


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def with_overrides(tree: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the tree with dotted names set; names that are not there stay for `check` to refuse."""
    copy: dict[str, Any] = {k: dict(v) if isinstance(v, dict) else v for k, v in tree.items()}
    for name, value in overrides.items():
        node = copy
        *parents, leaf = name.split(".")
        for parent in parents:
            child = node.get(parent)
            node[parent] = dict(child) if isinstance(child, dict) else {}
            node = node[parent]
        node[leaf] = value
    return copy


def write_tree(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a tree of parameters as YAML, in order."""
    write_text(path, yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True))


def set_family(path: Path, family: str, values: Mapping[str, Any]) -> None:
    """Set train.<family> in a parameter file; every other byte stays, comments too.

    ConfigurationError, and the file as it was, when the result would not be a valid parameter file.
    """
    read_tree(path)
    text = path.read_text(encoding="utf-8")
    node = yaml.compose(text, yaml.SafeLoader)
    for name in ("train", family):
        node = next((value for key, value in node.value if key.value == name), None)
        if node is None:
            raise ConfigurationError(f"{path} has no train.{family}: restore it from the version in git")
    said = yaml.safe_dump(dict(values), default_flow_style=True, sort_keys=False, width=10**6).strip()
    changed = text[: node.start_mark.index] + said + text[_end(node) :]
    check(yaml.safe_load(changed))
    write_text(path, changed)


def _end(node: yaml.Node) -> int:
    """Where the text of a node ends; a block's own mark is where the next begins, comments skipped."""
    inner = isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value
    last = node.value[-1] if inner else None
    if last is None:
        return int(node.end_mark.index)
    return _end(last[1] if isinstance(last, tuple) else last)
