"""Pages that have an n-gram of an item."""

from hypothesis import given, settings
from hypothesis import strategies as st

from glam.data.contamination.removal import dirty_pages
from glam.data.scan import NgramTable, ngram_hashes, word_hashes

PAGE = st.lists(st.sampled_from("abc"), max_size=6)


@settings(max_examples=60)
@given(
    st.lists(PAGE, min_size=1, max_size=5),
    st.lists(st.sampled_from("abc"), min_size=2, max_size=4),
)
def test_a_page_is_dirty_where_a_word_of_it_is_in_an_ngram(pages, gram):
    table = NgramTable.of([len(gram)], ngram_hashes(word_hashes(" ".join(gram)), len(gram)))
    words = [(word, page) for page, each in enumerate(pages) for word in each]
    expected = {
        page
        for at in range(len(words) - len(gram) + 1)
        if [word for word, _ in words[at : at + len(gram)]] == gram
        for page in range(words[at][1], words[at + len(gram) - 1][1] + 1)
    }
    found = dirty_pages([" ".join(page) for page in pages], table)
    assert {page for page, dirty in enumerate(found) if dirty} == expected
