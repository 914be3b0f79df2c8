"""The compiled library is used where it is of this code, and nothing breaks where it is not."""

import os
import shutil
from pathlib import Path

import pytest

from shared import native as module
from shared.native import Native, native


def bound(library: Native) -> object:
    return library.keeping.modelbus_columns_bytes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the library alone; who asks there is not remembered."""
    shutil.copy2(module._LIBRARY, tmp_path)
    monkeypatch.setattr(module, "_LIBRARY", tmp_path / module._LIBRARY.name)
    native.cache_clear()
    return tmp_path


def test_it_is_found_without_its_sources(folder: Path) -> None:
    assert native(bound) is not None


def test_one_that_is_older_than_a_source_is_not_used(folder: Path) -> None:
    source = folder / "plain.c"
    source.touch()
    newer = module._LIBRARY.stat().st_mtime + 1
    os.utime(source, (newer, newer))

    assert native(bound) is None


def test_where_there_is_none_python_does_the_work(folder: Path) -> None:
    module._LIBRARY.unlink()

    assert native(bound) is None
