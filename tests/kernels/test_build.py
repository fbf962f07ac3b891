"""The library: built once by whoever comes first, and never needed."""

import logging
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from glam.kernels import build

library = build._loaded.__wrapped__  # which remembers nothing
COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
BUILD = "import torch; from glam.kernels.build import library; print(library() is not None)"
with_a_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty one."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "glam"


@pytest.fixture
def warnings(caplog):
    """What was said, line by line."""
    caplog.set_level(logging.DEBUG, logger="glam.kernels")
    return lambda: [line for record in caplog.records for line in record.getMessage().splitlines()]


def compiler(folder: Path, monkeypatch, script: str) -> None:
    file = folder / "compiler"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("CC", str(file))


def works(found) -> bool:
    return found is not None and all(hasattr(found, name) for name in ("gelu_f32", "adafactor"))


@with_a_compiler
def test_the_library_is_built_once_and_found_again(cache, warnings):
    assert works(library())
    (file,) = cache.iterdir()
    made = file.stat()
    assert works(library())
    assert list(cache.iterdir()) == [file]
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (made.st_mtime_ns, made.st_ino)
    assert warnings() == []


@with_a_compiler
def test_other_sources_or_another_compiler_are_another_file(cache, tmp_path, monkeypatch):
    library()
    compiler(tmp_path, monkeypatch, f'[ "$1" = --version ] && echo mine || exec {COMPILER} "$@"')
    assert works(library())
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-DOTHER"))
    assert works(library())
    assert len(list(cache.iterdir())) == 3


@with_a_compiler
def test_without_a_cache_folder_the_library_is_built_elsewhere(tmp_path, monkeypatch, warnings):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert works(library())
    assert len(list(tmp_path.glob("glam-kernels-*/kernels-*.so"))) == 1
    assert warnings() == []


@with_a_compiler
def test_with_a_read_only_cache_the_library_is_built_elsewhere(cache, tmp_path, monkeypatch):
    cache.mkdir(parents=True)
    # Root may write anywhere.
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert works(library())
    assert list(cache.iterdir()) == []
    assert len(list(tmp_path.glob("glam-kernels-*/kernels-*.so"))) == 1


def test_without_a_compiler_there_is_no_library_and_one_warning(tmp_path, monkeypatch, warnings):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert library() is None
    (said,) = warnings()
    assert "no C compiler (cc, gcc or clang)" in said


def test_a_missing_compiler_is_named(monkeypatch, warnings):
    monkeypatch.setenv("CC", "/nowhere/cc")
    assert library() is None
    (said,) = warnings()
    assert "/nowhere/cc" in said


def test_a_compiler_that_fails_silently_is_named(monkeypatch, warnings):
    monkeypatch.setenv("CC", "/bin/false")
    assert library() is None
    (said,) = warnings()
    assert "/bin/false" in said


@with_a_compiler
def test_a_compiler_may_have_options(cache, monkeypatch, warnings):
    library()
    monkeypatch.setenv("CC", f"{COMPILER} -DOTHER")
    assert works(library())
    assert len(list(cache.iterdir())) == 2
    assert warnings() == []


@with_a_compiler
def test_a_user_without_a_home_gets_a_library(tmp_path, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert works(library())


def test_an_installed_package_has_the_sources():
    package = Path(build.__file__).parents[1]
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["glam"]
    shipped = {file for pattern in patterns for file in package.glob(pattern)}
    assert {package / "kernels" / name for name in build.SOURCES} <= shipped


def test_a_compiler_that_fails_gives_its_reason_in_one_line(tmp_path, monkeypatch, warnings):
    script = '[ "$1" = --version ] && echo mine && exit; echo "omp.h: not found\nand so on" >&2'
    compiler(tmp_path, monkeypatch, f"{script}; exit 1")
    assert library() is None
    (said,) = warnings()
    assert said.endswith("omp.h: not found")


@with_a_compiler
def test_a_compiler_that_knows_no_vector_widths_will_do(cache, tmp_path, monkeypatch, warnings):
    refuses = 'case "$*" in *-march*) echo "no such option" >&2; exit 1;; esac'
    compiler(tmp_path, monkeypatch, f'{refuses}; exec {COMPILER} "$@"')
    assert works(library())
    assert len(list(cache.iterdir())) == 1
    assert warnings() == []


@with_a_compiler
def test_a_library_that_does_not_load_is_none_with_a_warning(
    cache, tmp_path, monkeypatch, warnings
):
    library()
    (file,) = cache.iterdir()
    other = tmp_path / "other"
    (other / "glam").mkdir(parents=True)
    (other / "glam" / file.name).write_bytes(b"cut short")
    monkeypatch.setenv("XDG_CACHE_HOME", str(other))
    assert library() is None
    assert len(warnings()) == 1


def test_kernels_can_be_switched_off_for_a_while(kernels_here):
    with build.switched_off(), build.switched_off():
        assert build.library() is None
    assert works(build.library())


@pytest.mark.slow
def test_a_process_can_be_started_without_kernels(cache, monkeypatch):
    monkeypatch.setenv(build.SWITCH, "off")
    told = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("False\n", "")
    assert not cache.exists()


def test_a_failed_build_leaves_nothing_behind(cache, tmp_path, monkeypatch):
    compiler(tmp_path, monkeypatch, '[ "$1" = --version ] && echo mine && exit; exit 1')
    assert library() is None
    assert list(cache.iterdir()) == []


@pytest.mark.slow
@with_a_compiler
def test_two_processes_may_build_the_library_at_once(cache):
    command = [sys.executable, "-c", f"import torch; input(); {BUILD}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command, text=True, **pipes) for _ in range(2)]
    for process in both:  # they wait here until both have torch
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=600) for process in both]
    assert [out for out, _ in answers] == ["True\n"] * 2
    # A slow compiler is announced; nothing else is said.
    assert {line for _, err in answers for line in err.splitlines()} <= {"compiling the kernels …"}
    assert len(list(cache.iterdir())) == 1
