"""Plain text: one document a file, or sections."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.data.formats import Spec, records, unpack


def test_a_file_is_a_document(read, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\n\ntwo")
    (tmp_path / "b.txt").write_bytes(b"fine\ncaf\xe9")
    (tmp_path / "c.txt").write_bytes(b" \n")
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"three"))
    (tmp_path / "e.txt.gz").write_bytes(gzip.compress(b"four" * 1000)[:-8])
    texts, bad = read(*(path for path in sorted(tmp_path.iterdir())))
    assert texts == ["one\n\ntwo", "three", "four" * 1000]
    assert bad == [("not UTF-8", "b.txt:2"), ("empty", "c.txt:1"), ("damaged .gz", "e.txt.gz")]


def paragraphs(count: int, size: int) -> list[str]:
    return [f"Paragraph {n}: " + "wörd " * (size // 6) for n in range(count)]


def test_sections_end_at_blank_lines_and_are_not_small(read, tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(paragraphs(300, 1000)))
    texts, bad = read(tmp_path / "a.txt", sections=True)
    assert bad == []
    assert all(text.startswith("Paragraph") for text in texts)
    assert all(4096 <= len(text.encode()) < 4 * 4096 for text in texts[:-1])
    assert sum(text.count("Paragraph") for text in texts) == 300


def test_a_little_text_has_sections_too(read, tmp_path):
    (tmp_path / "a.txt").write_text("\r\n \r\n".join(paragraphs(40, 60)))
    texts, _ = read(tmp_path / "a.txt", sections=True)
    assert len(texts) >= 12


@pytest.mark.parametrize("mark", ["\n", " ", ""])
def test_text_without_blank_lines_is_cut_at_lines_at_words_or_within(read, tmp_path, mark):
    text = mark.join("äöü" * 30 for _ in range(400))
    (tmp_path / "a.txt").write_text(text)
    texts, bad = read(tmp_path / "a.txt", sections=True)
    assert bad == []
    assert "".join(texts) == text
    assert 10 <= len(texts) <= 41


@pytest.mark.parametrize("heading", ["## Of {}", "== Of {} ==", "CHAPTER {}", "Part {}. Of it"])
def test_sections_end_at_headings_where_no_line_is_blank(read, tmp_path, heading):
    parts = [f"{heading.format(n)}\n" + "Part of it, and = and # too\n" * 40 for n in range(300)]
    (tmp_path / "a.txt").write_text("".join(parts))
    texts, bad = read(tmp_path / "a.txt", sections=True)
    assert bad == []
    assert len(texts) > 60
    assert all(text.startswith(heading.split("{")[0]) for text in texts)
    assert "".join(texts) == "".join(parts)


def test_what_is_not_utf8_costs_its_section(read, tmp_path):
    parts = [part.encode() for part in paragraphs(30, 5000)]
    parts[7] = parts[7].replace(b"7:", b"7\xff", 1)
    (tmp_path / "a.txt").write_bytes(b"\n\n".join(parts))
    texts, bad = read(tmp_path / "a.txt", sections=True)
    assert len(texts) == 29
    assert bad == [("not UTF-8", "a.txt:15")]


def test_a_file_larger_than_a_record_may_be_is_cut(read, tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(paragraphs(30, 5000)))
    assert len(read(tmp_path / "a.txt")[0]) == 1
    assert len(read(tmp_path / "a.txt", most_bytes=50_000)[0]) == 30


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from([*"ab é☃\n\r\t", "\n# a", "\nPart 1\n"]), max_size=400).map("".join),
    st.integers(1, 50),
)
def test_sections_hold_all_words_in_order_wherever_the_file_is_cut(tmp_path_factory, text, chunk):
    path = tmp_path_factory.mktemp("any") / "a.txt"
    path.write_bytes(text.encode())
    whole = [each.text for each in records([path], Spec(sections=True))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpack, "_READ", chunk)
        assert [each.text for each in records([path], Spec(sections=True))] == whole
    assert "".join(whole).split() == "".join(whole).split()
    assert "".join("".join(whole).split()) == "".join(text.split())
