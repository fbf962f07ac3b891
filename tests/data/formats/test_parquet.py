"""Parquet, whole and damaged."""

import errno
import gzip
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from glam.config import BadRecord, Record
from glam.data.formats import Spec, records, unpacked_bytes
from glam.errors import UserError

TEXTS = ["one", "two é ☃", None, " ", "three"]
TABLE = pa.table({"text": TEXTS, "n": range(5), "doc": [{"text": text} for text in TEXTS]})
READ = ["one", "two é ☃", "three"]
EMPTY = [("empty", "a.parquet:3"), ("empty", "a.parquet:4")]


@pytest.mark.parametrize("field", ["text", "doc.text"])
def test_columns_and_nested_columns_are_read(read, tmp_path, field):
    pq.write_table(TABLE, tmp_path / "a.parquet", row_group_size=2)
    assert read(tmp_path / "a.parquet", text_field=field) == (READ, EMPTY)


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string())],
)
def test_strings_of_every_type_are_read(read, tmp_path, kind):
    column = pa.array(TEXTS).cast(kind) if kind != pa.string_view() else pa.array(TEXTS, kind)
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == (READ, EMPTY)


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_a_compressed_one_is_unpacked(read, tmp_path, suffix, pack):
    pq.write_table(TABLE, tmp_path / "a.parquet")
    path = tmp_path / f"a.parquet{suffix}"
    path.write_bytes(pack((tmp_path / "a.parquet").read_bytes()))
    assert read(path)[0] == READ


def test_a_full_disk_of_temporary_files_is_no_fault_of_the_file(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    pq.write_table(TABLE, tmp_path / "a.parquet")
    path = tmp_path / "a.parquet.gz"
    path.write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    monkeypatch.setattr("tempfile.TemporaryFile", Full)
    with pytest.raises(UserError, match=r"a.parquet.gz is unpacked in .*no space left; .*TMPDIR="):
        list(records([path], Spec()))


def test_text_that_is_not_utf8_is_bad_by_row(read, tmp_path):
    pq.write_table(pa.table({"text": [b"one", b"caf\xe9", b"two"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == (["one", "two"], [("not UTF-8", "a.parquet:2")])


def test_a_string_that_is_not_utf8_is_bad_by_row(read, tmp_path):
    offsets, data = pa.array([0, 3, 7, 10], pa.int32()).buffers()[1], pa.py_buffer(b"onecaf\xe9two")
    column = pa.Array.from_buffers(pa.string(), 3, [None, offsets, data])
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == (["one", "two"], [("not UTF-8", "a.parquet:2")])


def test_a_damaged_row_group_costs_none_of_the_others(tmp_path):
    texts = [f"{n} " + "word " * 200 for n in range(30)]
    path = tmp_path / "a.parquet"
    table = pa.table({"text": texts})
    pq.write_table(table, path, row_group_size=10, compression="zstd", use_dictionary=False)
    column = pq.read_metadata(path).row_group(1).column(0)
    raw = bytearray(path.read_bytes())
    end = column.data_page_offset + column.total_compressed_size
    raw[end - 60 : end] = b"\xff" * 60
    path.write_bytes(raw)
    found = list(records([path], Spec()))
    assert [each.text for each in found if isinstance(each, Record)] == texts[:10] + texts[20:]
    assert [(e.kind, e.place, e.count) for e in found if isinstance(e, BadRecord)] == [
        ("damaged .parquet", f"{path}:11", 10)
    ]


def test_a_file_that_is_cut_is_one_bad_record(read, tmp_path):
    pq.write_table(TABLE, tmp_path / "a.parquet")
    raw = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(raw[:-100])
    assert read(tmp_path / "a.parquet") == ([], [("damaged .parquet", "a.parquet")])
    assert unpacked_bytes(tmp_path / "a.parquet") == len(raw) - 100


@pytest.mark.parametrize(
    ("field", "says"),
    [
        (
            "txt",
            r"a.parquet: no field 'txt', which data.corpus.text_field names; did you mean .*text",
        ),
        ("doc.txt", r"did you mean doc.text"),
        ("n", r"a.parquet: 'n', which data.corpus.text_field names, holds int64, not text"),
        ("words", r"'words', which .* names, holds list<.*string>, not text"),
        ("words.list.element", r"no field 'words.list.element', which"),
        ("pairs", r"holds map<.*, not text"),
        ("text", r"a.parquet: 2 columns are called 'text'; rename one"),
    ],
)
def test_a_column_that_is_not_there_or_no_text_is_refused(tmp_path, field, says):
    table = TABLE.append_column("words", pa.array([["a"]] * len(TABLE)))
    pairs = pa.array([[("a", "b")]] * len(TABLE), pa.map_(pa.string(), pa.string()))
    table = table.append_column("pairs", pairs)
    if field == "text":
        table = table.append_column("text", table.column("text"))
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match=says):
        list(records([tmp_path / "a.parquet"], Spec(text_field=field)))


def test_a_later_file_without_the_column_is_bad_as_a_whole(read, tmp_path):
    pq.write_table(pa.table({"text": ["one"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"body": ["two", "three"]}), tmp_path / "b.parquet")
    bad = [("without the text's field", "b.parquet")]
    assert read(tmp_path / "a.parquet", tmp_path / "b.parquet") == (["one"], bad)


def test_a_flipped_bit_of_a_page_with_a_checksum_is_damage(read, tmp_path):
    path = tmp_path / "a.parquet"
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    pq.write_table(pa.table({"text": ["a", "b"]}), path, **options)
    place = pq.read_metadata(path).row_group(0).column(0)
    content = bytearray(path.read_bytes())
    content[place.data_page_offset + place.total_compressed_size - 1] ^= 1
    path.write_bytes(content)
    assert read(path) == ([], [("damaged .parquet", "a.parquet:1")])


def test_domain_and_score_are_columns(tmp_path):
    table = pa.table({"text": ["a", "b"], "source": ["Pile-CC & more", None], "s": [1, 0.5]})
    pq.write_table(table, tmp_path / "a.parquet")
    spec = Spec(domain_field="source", score_field="s")
    found = list(records([tmp_path / "a.parquet"], spec))
    assert found == [Record("a", "Pile-CC_more", 1.0), Record("b", None, 0.5)]


def test_its_text_is_estimated_from_its_table_of_contents(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"{n}" * 2000 for n in range(500)]}), path)
    assert unpacked_bytes(path) == pytest.approx(
        sum(len(f"{n}") * 2000 for n in range(500)), rel=0.05
    )
