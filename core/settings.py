"""The only reader of the environment.

Numbers of the offline pipeline live in `params.yaml`; here are addresses, secrets and places.
"""

import os
import re
import sys
from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import ConfigurationError

_SILENCE = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "False",
    "ORT_DISABLE_TELEMETRY": "1",
}
_QUIET = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "TQDM_DISABLE": "1",
    "GRPC_VERBOSITY": "NONE",
}
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
_TOKEN = re.compile("[!-~]{16,}")


def disable_telemetry() -> None:
    """Switch off every library's reporting; call before heavy libraries are imported.

    Also fixes one thread per numeric library: parallel work here is processes, and threads on busy cores
    make small fits an order of magnitude slower.
    """
    os.environ.update(_SILENCE)
    for name, value in {**_QUIET, **_ONE_THREAD}.items():
        os.environ.setdefault(name, value)


class Settings(BaseSettings):
    """Addresses, secrets and places; each field is BELLWETHER_<NAME> in the environment or in `.env`."""

    model_config = SettingsConfigDict(env_prefix="BELLWETHER_", env_file=".env", extra="ignore", frozen=True)

    home: Path = Field(
        Path(__file__).resolve().parent.parent, description="main checkout; holds var/ and mlflow/"
    )
    host: str = Field("127.0.0.1", description="address the inference service binds to")
    port: int = Field(8080, ge=1, le=65535, description="port of the inference service")
    grpc_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port of the service's gRPC form; 0 takes a free one; unset or empty: no gRPC",
    )
    token: SecretStr | None = Field(
        None, description="bearer token, 16 characters or more; required for any non-loopback bind"
    )
    tls_cert: Path | None = Field(
        None, description="PEM file of the service's certificate; with it, only TLS is spoken; empty: none"
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key")
    prefect_port: int = Field(4200, ge=1, le=65535, description="port of the Prefect server that `up` starts")
    mlflow_port: int = Field(5000, ge=1, le=65535, description="port of the MLflow UI that `up` starts")
    poll_seconds: float = Field(2.0, gt=0, description="how often the service looks for a new champion")
    registry_seconds: float = Field(
        3.0, gt=0, description="how long the service waits for the registry, or for the disk of a bundle"
    )
    canary_share: float = Field(
        0.0, ge=0, le=1, description="share of the symbols that the challenger answers for, by a stable hash"
    )
    rate_limit: float = Field(
        0.0, ge=0, description="requests per second allowed to one client address; 0 allows any number"
    )
    rate_burst: int = Field(
        100, ge=1, description="requests one client address may send at once before the rate applies"
    )
    max_concurrency: int = Field(
        512, ge=1, description="requests answered at once; more get 503 with Retry-After"
    )
    log_days: float = Field(730.0, gt=0, description="age in days at which logged predictions are removed")
    log_megabytes: float = Field(
        2000.0, gt=0, description="size of one model's prediction log above which its oldest part is removed"
    )
    log_min_rows: int = Field(
        10_000, ge=1, description="newest predictions of each symbol that stay at any age: drift reads them"
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="lowest level that is logged"
    )

    @field_validator("token")
    @classmethod
    def _hard_to_guess(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not _TOKEN.fullmatch(token.get_secret_value()):
            raise ValueError(
                "16 or more letters, digits and signs are expected, no space: make one with "
                '`openssl rand -hex 32` or `python -c "import secrets; print(secrets.token_urlsafe(32))"`'
            )
        return token

    @field_validator("grpc_port", "tls_cert", "tls_key", mode="before")
    @classmethod
    def _none_when_empty(cls, given: object) -> object:
        return None if given == "" else given

    @cached_property
    def var_dir(self) -> Path:
        """Runtime state; git-ignored."""
        return self.home / "var"

    @cached_property
    def prediction_log_dir(self) -> Path:
        """Root of the prediction logs, one folder per model."""
        return self.var_dir / "predictions"

    @cached_property
    def mlflow_dir(self) -> Path:
        """The tracking store."""
        return self.home / "mlflow"

    @cached_property
    def tracking_uri(self) -> str:
        """MLflow's database, as a URI."""
        return f"sqlite:///{self.mlflow_dir / 'mlflow.db'}"

    @cached_property
    def artifacts_dir(self) -> Path:
        """Root of MLflow's artifacts."""
        return self.mlflow_dir / "artifacts"

    @cached_property
    def prefect_api_url(self) -> str:
        """API of the Prefect server that `bellwether up` starts."""
        return f"http://127.0.0.1:{self.prefect_port}/api"


def load_settings() -> Settings:
    """Read the environment; ConfigurationError lists every fault at once."""
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigurationError([_fault(**each) for each in error.errors()]) from None


def _fault(loc: tuple[int | str, ...], input: object, msg: str, **_: object) -> str:
    name, rule = "_".join(map(str, loc)).upper(), msg.removeprefix("Value error, ")
    # a secret is not shown, how long it is helps
    shown = f" of {len(str(input))} characters" if name == "TOKEN" else f"={input!r}"
    return f"BELLWETHER_{name}{shown}: {rule}"


def kernel_cache() -> Path:
    """Where compiled kernels are kept: NUMBA_CACHE_DIR, else the user's cache directory.

    A user without a home gets a place that cannot be written, which costs compiling at every start.
    """
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen)
    home = Path("~").expanduser() if os.path.expanduser("~") != "~" else Path(os.devnull)
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "bellwether" / "kernels"


def child_environment(**extra: str) -> dict[str, str]:
    """The environment for a subprocess: ours, telemetry off, this interpreter's scripts first on PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**_QUIET, **_ONE_THREAD, **os.environ, **_SILENCE, "PATH": path, **extra}
