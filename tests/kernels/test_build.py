"""The library: built once by whoever comes first, and never needed."""

import functools
import logging
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from glam.errors import UserError
from glam.kernels import build, store
from glam.kernels.instruction_sets import SETS, SWITCH, architecture, asked, processor_sets

load = build._loaded.__wrapped__  # which remembers nothing
library = functools.partial(load, build.TEXT)  # whose sources compile in a twentieth of the time
COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
BUILD = "from glam.kernels.build import library; print(library() is not None)"
with_a_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


@pytest.fixture(scope="module")
def kernels_of_this_process():
    """Built before a test takes the cache away."""
    build.library()


@pytest.fixture(autouse=True)
def cache(kernels_of_this_process, tmp_path, monkeypatch) -> Path:
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


def works(found, names=("page_scores", "scan", "clean_documents")) -> bool:
    return found is not None and all(hasattr(found, name) for name in names)


@pytest.mark.parametrize("library_of", [build.KERNELS, build.TEXT], ids=lambda one: one.name)
def test_every_file_that_is_included_is_a_source(library_of):
    """A library is built anew where one of them changes."""
    folder = Path(build.__file__).parent
    included, found = list(library_of.sources[:1]), set[str]()
    while included:
        found.add(name := included.pop())
        names = re.findall(r'^#include "(.*)"$', (folder / name).read_text(), re.MULTILINE)
        included += set(names) - found
    assert found == set(library_of.sources)


@with_a_compiler
def test_the_library_is_built_once_and_found_again(cache, warnings):
    assert works(library())
    (file,) = cache.glob("*.so")
    made = file.stat()
    assert works(library())
    assert list(cache.glob("*.so")) == [file]
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (made.st_mtime_ns, made.st_ino)
    assert warnings() == []


@with_a_compiler
def test_other_sources_or_another_compiler_are_another_file(cache, tmp_path, monkeypatch):
    library()
    compiler(tmp_path, monkeypatch, f'[ "$1" = --version ] && echo mine || exec {COMPILER} "$@"')
    assert works(library())
    assert len(list(cache.glob("*.so"))) == 2
    other = replace(build.TEXT, flags=(*build.TEXT.flags, "-DOTHER"))
    assert works(load(other))
    assert len(list(cache.glob("*.so"))) == 3


@with_a_compiler
def test_without_a_cache_folder_the_library_is_built_elsewhere(tmp_path, monkeypatch, warnings):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert works(library())
    assert len(list(tmp_path.glob("glam-kernels-*/*.so"))) == 1
    assert warnings() == []


@with_a_compiler
def test_with_a_read_only_cache_the_library_is_built_elsewhere(cache, tmp_path, monkeypatch):
    cache.mkdir(parents=True)
    # Root may write anywhere.
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert works(library())
    assert {left.suffix for left in cache.iterdir()} <= {".lock"}
    assert len(list(tmp_path.glob("glam-kernels-*/*.so"))) == 1


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


def test_a_compiler_that_nobody_can_read_is_named(monkeypatch, warnings):
    monkeypatch.setenv("CC", 'gcc "-O')
    assert library() is None
    (said,) = warnings()
    assert said.endswith('CC=gcc "-O: No closing quotation')


@with_a_compiler
def test_where_a_disk_is_full_the_library_is_built_on_another(tmp_path, cache, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    full = usage._replace(free=1000)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: full if folder == cache else usage._replace(free=2**30)
    )
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert works(library())
    assert len(list(tmp_path.glob("glam-kernels-*/*.so"))) == 1
    assert list(cache.iterdir()) == []


@with_a_compiler
def test_a_library_compiled_for_what_this_processor_lacks_is_built_again(tmp_path, monkeypatch):
    """One home on two machines: its first instruction of a set that is not here is SIGILL."""
    calls = makes_no_library(tmp_path, monkeypatch)
    file, foreign = build._built(build.TEXT), tmp_path / "foreign"
    foreign.write_text(f"glam compiled for: {architecture()} avx512_of_2030;")
    if processor_sets() is None:
        pytest.skip("this system lists no instruction sets")
    store.keep(foreign, file)  # whole, and of this user
    assert store.is_whole(file)
    assert build._built(build.TEXT) == file
    assert b"2030" not in file.read_bytes()
    assert len(calls()) == 2


def test_a_compiler_for_another_processor_makes_no_library(tmp_path, monkeypatch, warnings):
    compiler(
        tmp_path,
        monkeypatch,
        '[ "$1" = --version ] && echo mine && exit\n'
        'for last; do [ "$before" = -o ] && out="$last"; before="$last"; done\n'
        'echo "glam compiled for: sparc;" > "$out"',
    )
    assert library() is None
    (said,) = warnings()
    assert said.endswith("compiles for sparc, not for this processor")


@pytest.mark.parametrize("made", [build.KERNELS, build.TEXT], ids=["kernels", "text"])
def test_a_set_that_was_asked_for_and_cannot_be_built_is_refused(monkeypatch, made):
    (here, *_) = [name for name, one in SETS.items() if one.architecture == architecture()]
    if not asks_for(here, monkeypatch):
        pytest.skip("no such processor here")
    monkeypatch.setenv("CC", "/bin/false")
    with pytest.raises(UserError, match=rf"^GLAM_KERNELS={here} cannot be built: /bin/false "):
        load(made)


def asks_for(name: str, monkeypatch) -> bool:
    monkeypatch.setenv(SWITCH, name)
    try:
        return asked() == name
    except UserError:
        return False


@with_a_compiler
def test_a_set_by_name_is_another_library(cache, monkeypatch):
    names = [name for name in SETS if asks_for(name, monkeypatch)]
    for name in names[:2]:
        monkeypatch.setenv(SWITCH, name)
        assert works(library())
    assert len(list(cache.glob("*.so"))) == len(names[:2])


@with_a_compiler
def test_a_compiler_may_have_options(cache, monkeypatch, warnings):
    library()
    monkeypatch.setenv("CC", f"{COMPILER} -DOTHER")
    assert works(library())
    assert len(list(cache.glob("*.so"))) == 2
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
    assert {
        package / "kernels" / name for name in (*build.KERNELS.sources, *build.TEXT.sources)
    } <= shipped


def test_a_compiler_that_fails_gives_its_reason_in_one_line(tmp_path, monkeypatch, warnings):
    script = '[ "$1" = --version ] && echo mine && exit; echo "omp.h: not found\nand so on" >&2'
    compiler(tmp_path, monkeypatch, f"{script}; exit 1")
    assert library() is None
    (said,) = warnings()
    assert said.endswith("omp.h: not found")


OF_KERNELS = ("gelu_f32", "adafactor")


@with_a_compiler
@pytest.mark.parametrize(
    ("made", "names"),
    [(build.KERNELS, OF_KERNELS), (build.TEXT, ("scan",))],
    ids=["kernels", "text"],
)
def test_a_compiler_that_knows_no_vector_widths_will_do(
    cache, tmp_path, monkeypatch, warnings, made, names
):
    refuses = 'case "$*" in *-march*) echo "no such option" >&2; exit 1;; esac'
    compiler(tmp_path, monkeypatch, f'{refuses}; exec {COMPILER} "$@"')
    assert works(load(made), names)
    assert len(list(cache.glob("*.so"))) == 1
    assert warnings() == []


def test_a_library_that_does_not_load_is_none_with_a_warning(tmp_path, monkeypatch, warnings):
    makes_no_library(tmp_path, monkeypatch)
    assert library() is None
    assert len(warnings()) == 1


def test_sources_flags_and_processor_name_the_library(tmp_path, monkeypatch):
    """Machines may share a home."""
    makes_no_library(tmp_path, monkeypatch)
    for name in build.TEXT.sources:
        shutil.copy(Path(build.__file__).with_name(name), tmp_path)
    monkeypatch.setattr(build, "__file__", str(tmp_path / "build.py"))
    found = [build._built(build.TEXT)]
    for name in build.TEXT.sources:
        with (tmp_path / name).open("a") as file:
            file.write("// edited")
        found.append(build._built(build.TEXT))
    found.append(build._built(replace(build.TEXT, flags=("-DOTHER",))))
    monkeypatch.setattr(build, "_processor", lambda: "another")
    found.append(build._built(build.TEXT))
    assert len(set(found)) == len(build.TEXT.sources) + 3


@pytest.mark.parametrize("damage", ["empty", "half", "one bit", "longer", "a folder's link"])
def test_a_library_that_is_damaged_is_not_loaded_but_built_again(
    cache, tmp_path, monkeypatch, damage
):
    """The loader answers a file that is cut short with SIGBUS."""
    calls = makes_no_library(tmp_path, monkeypatch)
    file = build._built(build.KERNELS)
    whole = file.read_bytes()
    damaged = {
        "empty": b"", "half": whole[: len(whole) // 2], "longer": whole + b"x",
        "one bit": bytes([whole[0] ^ 1]) + whole[1:], "a folder's link": whole,
    }  # fmt: skip
    file.write_bytes(damaged[damage])
    if damage == "a folder's link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    assert build._built(build.KERNELS) == file
    assert file.read_bytes() == whole
    assert not file.is_symlink()
    assert len(calls()) == 2
    assert build._built(build.KERNELS) == file
    assert len(calls()) == 2


def test_a_library_that_another_user_planted_is_not_loaded(cache, tmp_path, monkeypatch):
    calls = makes_no_library(tmp_path, monkeypatch)
    file = build._built(build.KERNELS)
    planted(file, monkeypatch)
    assert build._built(build.KERNELS) == file or os.geteuid() != 0
    assert len(calls()) == 2


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_cache_that_others_may_write_to_is_not_used(tmp_path, cache, monkeypatch, mode):
    makes_no_library(tmp_path, monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cache.mkdir(parents=True)
    cache.parent.chmod(mode)  # where they could put another folder in its place
    assert build._built(build.KERNELS).parent == tmp_path / f"glam-kernels-{os.geteuid()}"
    cache.parent.chmod(0o755)
    assert build._built(build.KERNELS).parent == cache


def test_a_folder_of_ours_is_closed_to_others(tmp_path, cache, monkeypatch):
    makes_no_library(tmp_path, monkeypatch)
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert build._built(build.KERNELS).parent == cache
    assert cache.stat().st_mode & 0o777 == 0o700


def test_without_a_cache_all_processes_of_a_user_share_one_library(tmp_path, monkeypatch):
    calls = makes_no_library(tmp_path, monkeypatch)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert build._built(build.KERNELS) == build._built(build.KERNELS)
    assert len(calls()) == 1


def test_a_library_in_a_read_only_cache_serves(cache, tmp_path, monkeypatch):
    calls = makes_no_library(tmp_path, monkeypatch)
    file = build._built(build.KERNELS)
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    assert build._built(build.KERNELS) == file
    assert len(calls()) == 1


def makes_no_library(folder, monkeypatch):
    """A compiler that is quick and whose library is none. Returns how to list what it linked."""
    linked = folder / "linked"
    compiler(
        folder,
        monkeypatch,
        '[ "$1" = --version ] && echo mine && exit\n'
        'for last; do [ "$before" = -o ] && out="$last"; before="$last"; done\n'
        f'echo "no library, long enough to be cut in half; glam compiled for: '
        f'{architecture()};" > "$out"\n'
        f'[ "$1" = -shared ] && echo once >> {linked} || true',
    )
    return lambda: linked.read_text().splitlines()


def planted(file, monkeypatch):
    """Root gives the file away; anybody else becomes another user."""
    if os.geteuid() == 0:
        os.chown(file, 4242, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)


def test_kernels_can_be_switched_off_for_a_while(kernels_here):
    with build.switched_off(), build.switched_off():
        assert build.library() is None
    assert works(build.library(), OF_KERNELS)


@pytest.mark.slow
def test_a_process_can_be_started_without_kernels(cache, monkeypatch):
    monkeypatch.setenv(SWITCH, "off")
    told = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("False\n", "")
    assert not cache.exists()


def test_a_failed_build_leaves_nothing_behind(cache, tmp_path, monkeypatch):
    compiler(tmp_path, monkeypatch, '[ "$1" = --version ] && echo mine && exit; exit 1')
    assert library() is None
    assert {left.suffix for left in cache.iterdir()} <= {".lock"}


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
    assert len(list(cache.glob("*.so"))) == 1
