"""The page of a preparation."""

from glam.reporting import preparation


def test_the_page_has_steps_origins_and_what_was_set_aside_and_no_markup_of_the_text(
    tmp_path, funnel_rows
):
    data = {
        "fingerprint": "abc",
        "funnel": funnel_rows,
        "origins": [{"name": "web", "license": "ODC-By", "origin": "a/b at 0123"}],
        "samples": {"kept": [{"source": "web", "score": 0.9, "text": "<script>alert(1)</script>"}]},
        "settings": {"page_characters": "1,200"},
    }
    page = tmp_path / "new" / "page.html"
    preparation.write(page, data, {})
    text = page.read_text()
    for words in (
        "1,203 bad records set aside",
        "a/b at 0123",
        "ODC-By",
        "page characters",
        "<svg",
    ):
        assert words in text
    assert "<script>alert" not in text
