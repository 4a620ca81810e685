"""Machine code for operators: made by numba once, kept on disk, loaded without numba.

Every operator is an object file of its own. Its name in the cache is a digest of all that it is made of:
the sources of its module and of the operator modules that this one imports, the compiler, the versions of
numba and LLVM, and the processor. So an edit recompiles what it touches and nothing else, checkouts share
what they have in common, and a process that finds all it needs never imports numba.
"""

import ctypes
import functools
import hashlib
import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import llvmlite.binding as llvm

from core.errors import ArtifactError
from core.files import read_sealed, write_sealed
from core.settings import child_environment, kernel_cache
from features.operators import KERNELS

PROGRAMS = {"run": "features.engine", "numerals": "features.numerals"}
"""What is no operator: the function of that name of a module that nothing else imports."""
_COMPILERS = 2
_TOLD_SECONDS = 5.0
_log = logging.getLogger(__name__)
_ONE_AT_A_TIME = threading.Lock()
_IMPORT = re.compile(r"^from (features\.operators\.\w+) import", re.MULTILINE)
# what kernels may call outside of themselves: the C library's mathematics
_EXTERNAL = ("cos", "erf", "erfc", "exp", "expm1", "fmod", "log", "log1p", "pow", "sin", "tanh")


def sources() -> bytes:
    """SHA-256 over the package's sources as they are on disk: all that shapes programs and kernels."""
    folder = Path(__file__).parent
    files = sorted([*folder.glob("*.py"), *folder.glob("operators/*.py")])
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).digest()


_IMPORTED = sources()


@functools.cache
def addresses(names: tuple[str, ...]) -> tuple[int, ...]:
    """Where the machine code of each operator, or of one of the PROGRAMS, begins.

    Compiles what no cache has: half a minute, once per machine, of which the log tells how far it is. A cache
    that cannot be written costs that at every start.
    ArtifactError when the sources are no longer those that this process runs: kernels made of them would
    read its memory wrongly. Safe from any thread.
    """
    with _ONE_AT_A_TIME:
        return _addresses(names)


def _addresses(names: tuple[str, ...]) -> tuple[int, ...]:
    if sources() != _IMPORTED:
        raise ArtifactError("the feature engine's sources changed since this process began: start it again")
    lacking = _lacking(names)
    # with what else a machine will want: the service then starts without a compiler
    if lacking and not _compile(_lacking(dict.fromkeys([*names, *PROGRAMS])), kernel_cache()):
        with TemporaryDirectory(prefix="bellwether-kernels-") as place:
            _compile(lacking, Path(place))
            return tuple(_address(name, Path(place)) for name in names)
    return tuple(_address(name, kernel_cache()) for name in names)


def _lacking(names: Iterable[str]) -> list[str]:
    return [name for name in names if not _is_loaded(name) and _cached(kernel_cache(), name) is None]


def symbol_of(name: str) -> str:
    """The name under which an operator's machine code is found."""
    return f"bellwether_{name}"


def _is_loaded(name: str) -> bool:
    return bool(_loader().get_function_address(symbol_of(name)))


def _address(name: str, place: Path) -> int:
    if not _is_loaded(name):
        code = _cached(place, name) or _cached(kernel_cache(), name)
        if code is None:
            raise ArtifactError(f"kernel {name} was compiled and is gone from {place}: start again")
        _loader().add_object_file(llvm.ObjectFileRef.from_data(code))
        _loader().finalize_object()
    return int(_loader().get_function_address(symbol_of(name)))


def _file_of(place: Path, name: str) -> Path:
    return place / f"{digest(name)}.o"


def _cached(place: Path, name: str) -> bytes | None:
    """The object file of an operator; None when it is missing or not what was written."""
    return read_sealed(_file_of(place, name))


def keep(place: Path, name: str, code: bytes) -> None:
    """Put an object file into the cache."""
    write_sealed(_file_of(place, name), code)


def _compile(names: Sequence[str], place: Path) -> bool:
    """Compile in processes of their own, so that this one never loads numba; False: no room for results.

    LLVM optimises the finished operator; numba's own passes over each of its parts would double the time.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=place):
            pass
    except OSError:
        return False
    ours = child_environment(PYTHONPATH=str(Path(__file__).parents[1]))
    # settings of numba's that a user has for other work must not shape what the cache keeps
    environment = {name: value for name, value in ours.items() if not name.startswith("NUMBA_")}
    environment["NUMBA_OPT"] = "0"
    shares = [names[start::_COMPILERS] for start in range(min(_COMPILERS, len(names)))]
    started: list[subprocess.Popen[bytes]] = []
    began = time.monotonic()
    count = {"operators": len(names)}
    _log.info("features_compiling", {**count, "done": 0, "note": f"once per machine; kept in {place}"})
    try:
        for share in shares:
            command = [sys.executable, "-m", "features.compiler", str(place), *share]
            started.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            )
        for process in started:
            said = _said(process, names, place)
            if process.returncode:
                raise ArtifactError(f"kernels could not be compiled: {_reason(process.returncode, said)}")
    finally:  # an error or ctrl-C leaves no process behind
        for process in started:
            process.kill()
            process.wait()
    _log.info("features_compiled", {**count, "seconds": round(time.monotonic() - began, 1)})
    return True


def _said(process: "subprocess.Popen[bytes]", names: Sequence[str], place: Path) -> bytes:
    """What a compiler says on standard error until it ends; the log is told how far all of them are."""
    while True:
        try:
            return process.communicate(timeout=_TOLD_SECONDS)[1]
        except subprocess.TimeoutExpired:
            done = sum(_file_of(place, name).exists() for name in names)
            _log.info("features_compiling", {"operators": len(names), "done": done})


def _reason(code: int, said: bytes) -> str:
    if code < 0:
        return (
            f"the compiler was ended by signal {-code}, most likely for want of memory: "
            "close other programs and start again"
        )
    return said.decode(errors="replace")[-2000:]


@functools.cache
def digest(name: str) -> str:
    """SHA-256 over the sources, tools and processor that an operator's machine code depends on."""
    module = PROGRAMS.get(name) or KERNELS[name].module
    parts = [name.encode(), *_machine(), *map(_source, sorted(_closure(module)))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


@functools.cache
def _machine() -> tuple[bytes, ...]:
    tools = [f"{package} {version(package)}" for package in ("numba", "llvmlite")]
    features = llvm.get_host_cpu_features().flatten()
    return tuple(text.encode() for text in (*tools, llvm.get_host_cpu_name(), features))


@functools.cache
def _source(module: str) -> bytes:
    return _file(module).read_bytes()


def _file(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ArtifactError(f"{module} has no source file: install the package again")
    return Path(spec.origin)


@functools.cache
def _closure(module: str) -> frozenset[str]:
    """A module and the modules with kernels that it imports, and how they are compiled."""
    found = {module, "features.compiler", "features.layout"}
    for inner in _imports(module):
        found |= _closure(inner)
    return frozenset(found)


def _imports(module: str) -> list[str]:
    return _IMPORT.findall(_source(module).decode())


@functools.cache
def _loader() -> llvm.ExecutionEngine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    library = ctypes.CDLL(None)  # the interpreter, which has them
    for name in _EXTERNAL:
        llvm.add_symbol(name, ctypes.cast(library[name], ctypes.c_void_p).value)
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())


def target_machine() -> llvm.TargetMachine:
    """This processor, with everything it can do."""
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="default",
        codemodel="jitdefault",
        jit=True,
    )
