"""Last words and endings."""

LAKE = (
    "The old man put his boat into the water. He took the oars, and soon he was far out on the "
    "lake. At night he came back with three fish in his"
)
HORSE = (
    "Every morning the girl fed the horse. One morning the stable was empty, and all day she "
    "looked for the"
)


def test_lambada_goes_on_without_demonstrations_and_fills_a_blank_with_some(judged):
    assert judged("lambada").prompts(0) == [LAKE]
    one = judged("lambada", 1)
    assert one.prompts(0) == [f"Fill in blank:\n\n{HORSE} ____. -> horse\n\n{LAKE} ____. ->"]
    assert one.score(0, " boat and") == {"acc": 1}
    assert one.score(0, "Boat.") == {"acc": 1}
    assert one.score(0, "") == {"acc": 0}
    assert one.score(0, "old boat") == {"acc": 0}


def test_a_passage_of_lambada_never_shows_itself(judged):
    two = judged("lambada", 2)
    for item in range(3):
        [prompt] = two.prompts(item)
        word = two.documents[item]["text"].split()[-1]
        assert f"-> {word}\n" not in prompt
        assert prompt.count("->") == 3


def test_hellaswag_is_judged_per_token(judged):
    none = judged("hellaswag")
    context = "Baking bread: How to bake bread. Mix the dough. Take flour and water."
    assert none.requests(0) == [
        (context, " Knead it for ten minutes."),
        (context, " Throw it at the wall."),
        (context, " Ask the flour."),
        (context, " Paint it blue."),
    ]
    assert none.prompts(1)[0] == "Fishing: A man sits on a pier. He"
    # Per token −1.5, −2, −2, −3; the sum would take the third.
    assert none.score(0, (-9, 6), (-10, 5), (-6, 3), (-9, 3)) == {"acc": 1}
    assert none.score(1, (-9, 6), (-10, 5), (-6, 3), (-9, 3)) == {"acc": 0}
    assert none.chance == 0.25
    shown = "Washing a car: A woman fills a bucket with water. She dips a sponge into it and rubs"
    assert judged("hellaswag", 1).prompts(0)[0] == f"{shown} the door.\n\n{context}"


def test_storycloze(judged):
    one = judged("storycloze", 1)
    story = (
        "Mia planted seeds in spring. It did not rain for weeks. She carried water every evening. "
        "Small leaves came out of the ground."
    )
    shown = (
        "Tom wanted a dog. He saved his money for a year. Then he went to the shelter. "
        "A brown puppy licked his hand. Tom took the puppy home."
    )
    assert one.requests(0) == [
        (f"{shown}\n\n{story}", " Mia was angry with the leaves."),
        (f"{shown}\n\n{story}", " Mia was proud of her garden."),
    ]
    # Per token −2 and −1.5.
    assert one.score(0, (-8, 4), (-9, 6)) == {"acc": 1}
    assert one.score(1, (-8, 4), (-9, 6)) == {"acc": 0}
