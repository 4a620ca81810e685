"""Everything tried for a model: evaluated candidates, trials of searches, and what the registry recorded.

The ledger is var/trials/<model>/<key>.json, one small file per set of evaluated candidates, written by the
evaluate stage: a run that ends without a registration was a trial all the same. The key is a digest of the
candidates' records, so evaluating the same thing again adds nothing, and the registry's run of the same
candidates carries the same key.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ArtifactError
from core.files import canonical_json, read_json, sha256_bytes, write_json
from evaluation.trials import TrialSet, Tried, gather

if TYPE_CHECKING:
    from models.registry import Registry

LEDGER, SEARCHES = "trials", "tuning"


def candidates(model: str, evidence: Mapping[str, Any]) -> TrialSet:
    """The trials that an evaluation itself lists, with their records."""
    n = int(evidence["backtest"]["n"])
    records = tuple((float(trial["sharpe"]), n) for trial in evidence["trials"])
    names = [str(trial["name"]) for trial in evidence["trials"]]
    key = sha256_bytes(canonical_json([model, names, records]).encode())
    return TrialSet(key, len(records), records)


def record(var_dir: Path, model: str, evidence: Mapping[str, Any]) -> None:
    """Enter an evaluation into the ledger; the same one again changes nothing."""
    tried = candidates(model, evidence)
    write_json(var_dir / LEDGER / model / f"{tried.key}.json", plain(tried))


def known(var_dir: Path, model: str) -> Iterator[TrialSet]:
    """What var/ knows of: evaluated candidates, and the trials of every search."""
    for path in sorted((var_dir / LEDGER / model).glob("*.json")):
        yield _read(path, read_json(path))
    for path in sorted((var_dir / SEARCHES).glob(f"{model}-*.journal")):
        journal = read_json(path)
        try:
            if journal["search"]["model"] == model:
                yield from (_read(path, tried) for tried in journal["tried"])
        except (KeyError, TypeError) as error:
            raise _unreadable(path) from error


def tried(registry: "Registry", var_dir: Path, model: str, evidence: Mapping[str, Any]) -> Tried:
    """All trials of a model, those of `evidence` included, for `evaluation.gates.recount`."""
    own = candidates(model, evidence)
    return gather([own, *registry.trial_sets(model), *known(var_dir, model)], int(evidence["backtest"]["n"]))


def plain(tried: TrialSet) -> dict[str, Any]:
    """A set of trials as JSON holds it."""
    return {"key": tried.key, "count": tried.count, "records": [list(record) for record in tried.records]}


def _read(path: Path, entry: Mapping[str, Any]) -> TrialSet:
    try:
        records = tuple((float(sharpe), int(n)) for sharpe, n in entry["records"])
        return TrialSet(str(entry["key"]), int(entry["count"]), records)
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> ArtifactError:
    return ArtifactError(
        f"{path} does not list trials: restore it from a backup, or move it away and its trials do not count"
    )
