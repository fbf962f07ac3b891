"""Every kernel has a scalar reference and is held against it; a few shapes of each run here under
sanitizers, many more by `make check-c`."""

import re
from pathlib import Path

import pytest

from experiments.check_c import builds
from glam.kernels import build
from glam.kernels.contracts import SIGNATURES, TYPED
from glam.kernels.instruction_sets import options

CHECKS = (Path(builds.__file__).with_name("check.c")).read_text()
SOURCE = builds.source(build.KERNELS)
REFERENCES = "".join(file.read_text() for file in builds.KERNELS.glob("reference*.h"))
EXPORTED = re.compile(r"^(?:void|int) (?:OF\((\w+)\)|(\w+))\(", re.MULTILINE)


def test_every_exported_function_is_in_the_table():
    """A TYPED one is written once for both types, or once for each."""
    written = {of_any or name for of_any, name in EXPORTED.findall(SOURCE)}
    for name in TYPED:
        forms = {f"{name}_f32", f"{name}_bf16"}
        written = (written - forms) | {name} if forms <= written else written
    assert written == set(SIGNATURES)


def test_every_kernel_is_checked():
    checked = set(re.findall(r"CHECKS\((\w+)\)", CHECKS)) | set(
        re.findall(r"CHECK\((\w+)\)", CHECKS)
    )
    assert [name for name in SIGNATURES if name not in checked] == []
    assert [name for name in TYPED if f"CHECKS({name})" not in CHECKS] == []


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_kernels_comment_names_its_reference(name):
    forms = [f"OF({name})", f"{name}_f32", f"{name}_bf16"] if name in TYPED else [name]
    heads = re.finditer(rf"\*/\n(?:void|int) (?:{'|'.join(map(re.escape, forms))})\(", SOURCE)
    comments = [SOURCE[SOURCE.rindex("/*", 0, head.start()) : head.start()] for head in heads]
    assert comments
    for comment in comments:
        named = re.search(r"Reference:[ *\n]+(\w+)", comment)
        assert named is not None, comment
        if name == "decode_ahead":  # whole steps of others
            assert named[1] == "decode"
        elif name == "pack_weights":
            assert named[1] == "packed_place"
        else:
            assert f" {named[1]}(" in REFERENCES


def test_every_reference_is_used():
    names = set(re.findall(r"^static \w+ (reference_\w+)\(", REFERENCES, re.MULTILINE))
    folder = Path(builds.__file__).parent
    used = REFERENCES + "".join(
        f.read_text() for f in folder.iterdir() if f.suffix in (".c", ".h", ".inc")
    )
    assert [name for name in names if len(re.findall(rf"\b{name}\(", used)) < 2] == []


@pytest.mark.slow
def test_every_kernel_is_as_its_reference_under_sanitizers(tmp_path):
    found = builds.compiler("gcc")
    if found is None:
        pytest.skip("no gcc here")
    chosen = builds.Build(found, options("on")[0], sanitized=True)
    builds.compile_text(chosen, tmp_path)
    said = builds.check(chosen, tmp_path, 3, 1)
    assert re.search(r"(\d+) kernels, 3 rounds each: 0 not as their references$", said.strip())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        (
            "1.0f / sqrtf(total / width + eps)",
            "1.0f / sqrtf(total / (width + 1) + eps)",
            "inverse[0] is",
        ),
        (
            "j < width; j++) total += WIDEN",
            "j <= width; j++) total += WIDEN",
            "heap-buffer-overflow",
        ),
    ],
    ids=["a wrong number", "a read too far"],
)
def test_a_mistake_in_a_kernel_is_found(tmp_path, monkeypatch, right, wrong, says):
    found = builds.compiler("gcc")
    if found is None:
        pytest.skip("no gcc here")
    for file in builds.KERNELS.glob("*.[chi]*"):
        text = file.read_text()
        if file.name == "elementwise.inc":
            assert right in text
            text = text.replace(right, wrong)
        (tmp_path / file.name).write_text(text)
    monkeypatch.setattr(builds, "KERNELS", tmp_path)
    chosen = builds.Build(found, (), sanitized=True)
    with pytest.raises(builds.CheckFailedError, match=re.escape(says)):
        builds.check(chosen, tmp_path, 20, 1, "rms_norm_f32")
