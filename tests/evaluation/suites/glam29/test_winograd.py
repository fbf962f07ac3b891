"""The candidates stand in the prompts; what follows them is judged."""


def test_winograd(judged):
    none = judged("winograd")
    assert none.requests(0) == [
        ("The jug did not fit on the shelf because the jug", " was too tall."),
        ("The jug did not fit on the shelf because the shelf", " was too tall."),
    ]
    assert none.requests(2) == [
        ("Ann asked Eve to lend her pen, because Ann's", " own was lost."),
        ("Ann asked Eve to lend her pen, because Eve's", " own was lost."),
    ]
    assert none.score(0, (-4, 4), (-5, 4)) == {"acc": 1}
    assert none.score(1, (-4, 4), (-5, 4)) == {"acc": 0}
    assert judged("winograd", 1).prompts(0)[1] == (
        "Ann asked Eve to lend her pen, because Ann's own was lost.\n\n"
        "The jug did not fit on the shelf because the shelf"
    )


def test_winogrande(judged):
    one = judged("winogrande", 1)
    shown = "Lena gave Marta the map because Marta had lost the way.\n\n"
    coat = "The coat was warmer than the shirt, so in winter Paul wore the"
    assert one.requests(0) == [
        (f"{shown}{coat} coat", " outside."),
        (f"{shown}{coat} shirt", " outside."),
    ]
    none = judged("winogrande")
    assert none.requests(1) == [
        ("Rosa envied Clara, because Rosa", "'s garden was full of roses."),
        ("Rosa envied Clara, because Clara", "'s garden was full of roses."),
    ]
    assert none.score(1, (-7, 6), (-6.5, 6)) == {"acc": 1}
