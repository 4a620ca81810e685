from dataclasses import fields

import numpy as np
import pytest

from features import kept
from features.catalogue import definitions
from features.parser import parse_all
from features.program import Program, compile_program


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "kernel_cache", lambda: tmp_path)
    return tmp_path


def _compile() -> Program:
    return compile_program(parse_all(definitions("core") | {"coarse": "on('1w', mean(close, 3))"}))


def _never() -> Program:
    raise AssertionError("compiled again")


def _same(a: Program, b: Program) -> None:
    for field in fields(Program):
        one, other = getattr(a, field.name), getattr(b, field.name)
        np.testing.assert_array_equal(one, other) if isinstance(one, np.ndarray) else None
        assert isinstance(one, np.ndarray) or one == other, field.name
        assert not isinstance(one, np.ndarray) or one.dtype == other.dtype, field.name


def test_a_kept_program_is_the_compiled_one(cache):
    texts = tuple(definitions("core").items())
    made = kept.program(texts, _compile)
    read = kept.program(texts, _never)
    _same(made, read)
    assert read.digest == made.digest
    assert read.initial_state.flags.writeable


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:50] + b"x" + data[51:], lambda data: b""]
)
def test_a_damaged_file_is_made_again(cache, damage):
    texts = tuple(definitions("core").items())
    kept.program(texts, _compile)
    (file,) = cache.glob("*.program")
    file.write_bytes(damage(file.read_bytes()))
    _same(kept.program(texts, _compile), kept.program(texts, _never))


def test_other_definitions_are_another_file(cache):
    texts = tuple(definitions("core").items())
    kept.program(texts, _compile)
    kept.program(texts[::-1], _compile)
    assert len(list(cache.glob("*.program"))) == 2


def test_a_cache_that_cannot_be_written_is_no_fault(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kept, "kernel_cache", lambda: tmp_path / "file" / "kernels")
    _same(kept.program(tuple(definitions("core").items()), _compile), _compile())
