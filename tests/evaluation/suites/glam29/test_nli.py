"""ANLI's three rounds."""


def test_anli(judged):
    one = judged("anli_r1", 1)
    prompt = (
        "anli 1: anli 1: The tower was finished in 1910.\n"
        "Question: The tower is a building. True, False, or Neither? True\n\n"
        "anli 1: anli 1: The singer was born in Turku.\n"
        "Question: The singer likes tea. True, False, or Neither?"
    )
    assert one.requests(0) == [(prompt, " True"), (prompt, " Neither"), (prompt, " False")]
    # Per token −2, −1, −2.
    assert one.score(0, (-2, 1), (-3, 3), (-2, 1)) == {"acc": 1}
    assert one.score(1, (-2, 1), (-3, 3), (-2, 1)) == {"acc": 0}


def test_each_round_has_its_own_documents(judged):
    assert judged("anli_r2", 1).prompts(0)[0] == (
        "anli 2: anli 2: The book has 300 pages.\n"
        "Question: The book has pages. True, False, or Neither? True\n\n"
        "anli 2: anli 2: The farm keeps goats and sheep.\n"
        "Question: There are goats on the farm. True, False, or Neither?"
    )
    assert judged("anli_r2").score(0, (-1, 1), (-2, 1), (-2, 1)) == {"acc": 1}
    assert (
        "Question: He left at noon. True, False, or Neither? False\n\nanli 3: anli 3: "
        in (judged("anli_r3", 1).prompts(0)[0])
    )
    assert judged("anli_r3").score(0, (-2, 1), (-1, 1), (-2, 1)) == {"acc": 1}
