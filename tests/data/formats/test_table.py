"""Tables as text, with the quotation marks that people forget."""

import csv
import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.config import Record
from glam.data.formats import Spec, records
from glam.errors import UserError


@pytest.mark.parametrize(
    "table",
    [
        'id,text\n1,"one, and\nmore"\n2,two\n\n3,"a ""word"""\n',
        'text;id\n"one, and\nmore";1\ntwo;2\n"a ""word""";3\n',
        'text\r\n"one, and\nmore"\r\ntwo\r\n"a ""word"""',
    ],
)
def test_rows_are_read_with_the_delimiter_of_the_header(read, tmp_path, table):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + table.encode())
    assert read(tmp_path / "a.csv") == (["one, and\nmore", "two", 'a "word"'], [])


def test_tsv_and_compressed_ones_are_read(read, tmp_path):
    (tmp_path / "a.tsv").write_text("id\ttext\n1\tone, two\n")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"text\nthree\n"))
    assert read(tmp_path / "a.tsv", tmp_path / "a.csv.gz") == (["one, two", "three"], [])


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (b'2,"never closed', "not CSV"),
        (b'2,"closed"too early', "not CSV"),
        (b"2,too,many", "not CSV"),
        (b"2", "not CSV"),
        (b"2,caf\xe9", "not UTF-8"),
        (b"2,", "empty"),
        (b"2," + b"x" * 3000, "too long"),
    ],
)
def test_a_bad_row_costs_no_other(read, tmp_path, row, kind):
    rows = b"".join(b"%d,text %d\n" % (n, n) for n in range(3, 300))
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,one\n" + row + b"\n" + rows)
    texts, bad = read(tmp_path / "a.csv", most_bytes=2000)
    assert texts == ["one", *(f"text {n}" for n in range(3, 300))]
    # A mark that is not closed is seen where the row grows too long, or the file ends.
    assert [place for _, place in bad] == ["a.csv:3"]
    assert bad[0][0] == kind or b"never" in row


def test_a_column_that_is_not_there_is_refused_with_the_nearest(tmp_path):
    (tmp_path / "a.csv").write_text("id,texts\n1,x\n")
    with pytest.raises(UserError, match=r"a.csv: no field 'text', .*text_field .*mean texts\?"):
        list(records([tmp_path / "a.csv"], Spec()))


def test_a_table_with_two_columns_of_the_name_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,text\n1,x\n")
    with pytest.raises(UserError, match=r"a.csv: 2 columns are called 'text'; rename one"):
        list(records([tmp_path / "a.csv"], Spec()))


def test_a_file_whose_first_line_is_no_header_is_bad(read, tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id,text\r1,one\r2,two\r")  # lines that end as of old
    assert read(tmp_path / "a.csv") == ([], [("not CSV", "a.csv:1")])


def test_text_in_the_place_of_names_is_shown_in_short(tmp_path):
    (tmp_path / "a.csv").write_text(",".join(["x" * 500] * 60) + "\n1\n")
    with pytest.raises(UserError) as raised:
        list(records([tmp_path / "a.csv"], Spec()))
    assert len(str(raised.value)) < 60 * 70


def test_an_empty_table_has_no_document(read, tmp_path):
    (tmp_path / "a.csv").write_text("")
    assert read(tmp_path / "a.csv") == ([], [])


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]))))
def test_any_text_comes_back(tmp_path_factory, texts):
    path: Path = tmp_path_factory.mktemp("any") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *enumerate(texts)])
    found = [each for each in records([path], Spec()) if isinstance(each, Record)]
    assert found == [Record(text) for text in texts if text and not text.isspace()]
