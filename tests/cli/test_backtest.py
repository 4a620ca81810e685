from pathlib import Path

import pytest

from cli.backtest import backtest
from core.errors import ArtifactError


def test_backtest_before_the_first_run_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BELLWETHER_HOME", str(tmp_path))
    with pytest.raises(ArtifactError, match="run `bellwether run` first"):
        backtest(as_json=False)
