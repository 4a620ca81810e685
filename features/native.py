"""Machine code for operators: made by numba once, kept on disk, loaded without numba.

Every operator is an object file of its own. Its name in the cache is a digest of all that it is made of:
the sources of its module and of the operator modules that this one imports, this file, the versions of
numba and LLVM, and the processor. So an edit recompiles what it touches and nothing else, checkouts share
what they have in common, and a process that finds all it needs never imports numba.
"""

import ast
import contextlib
import ctypes
import functools
import hashlib
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import llvmlite.binding as llvm

from core.files import write_bytes
from core.settings import kernel_cache
from features.operators import KERNELS

_SEAL = 32
# what kernels may call outside of themselves: the C library's mathematics
_EXTERNAL = ("cos", "erf", "erfc", "exp", "expm1", "fmod", "log", "log1p", "pow", "sin", "tanh")


@functools.cache
def addresses(names: tuple[str, ...]) -> tuple[int, ...]:
    """Where the machine code of each operator begins, compiled first where the cache lacks it."""
    return tuple(_address(name) for name in names)


def _address(name: str) -> int:
    symbol = f"bellwether_{name}"
    loaded = _loader().get_function_address(symbol)
    if not loaded:
        code = llvm.ObjectFileRef.from_data(machine_code(name, symbol))
        _loader().add_object_file(code)
        _loader().finalize_object()
        loaded = _loader().get_function_address(symbol)
    return int(loaded)


def machine_code(name: str, symbol: str) -> bytes:
    """The object file of an operator, or of the engine's loop (name "run")."""
    place = kernel_cache() / f"{digest(name)}.o"
    with contextlib.suppress(OSError):
        sealed = place.read_bytes()
        if hashlib.sha256(sealed[_SEAL:]).digest() == sealed[:_SEAL]:
            return sealed[_SEAL:]
    from features import compiler

    code = compiler.object_file(name, symbol)
    with contextlib.suppress(OSError):  # a read-only home costs a compilation at every start, no more
        write_bytes(place, hashlib.sha256(code).digest() + code)
    return code


def missing(names: Iterable[str]) -> list[str]:
    """Those operators that would have to be compiled."""
    return [name for name in names if not (kernel_cache() / f"{digest(name)}.o").exists()]


@functools.cache
def digest(name: str) -> str:
    """SHA-256 over the sources, tools and processor that an operator's machine code depends on."""
    module = KERNELS[name].module if name in KERNELS else "features.engine"
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
    assert spec is not None and spec.origin is not None
    return Path(spec.origin)


@functools.cache
def _closure(module: str) -> frozenset[str]:
    """A module and the modules with kernels that it imports, and how they are compiled."""
    found = {module, "features.compiler", "features.layout", "features.native"}
    for inner in _imports(module):
        found |= _closure(inner)
    return frozenset(found)


def _imports(module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("features.operators."):
            yield str(node.module)


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
