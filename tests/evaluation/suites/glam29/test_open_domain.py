"""Questions without a text."""


def test_triviaqa(judged):
    assert judged("triviaqa").prompts(0) == ["Q: Which tree do acorns grow on?\n\nA:"]
    one = judged("triviaqa", 1)
    assert one.prompts(0) == [
        "Q: Which metal is liquid at room temperature?\n\nA: Mercury\n\n"
        "Q: Which tree do acorns grow on?\n\nA:"
    ]
    assert one.score(0, " the Oak") == {"em": 1}
    assert one.score(0, "oak tree.") == {"em": 1}  # an alias
    assert one.score(0, "Oak, of course") == {"em": 0}
    assert one.score(1, "8") == {"em": 1}


def test_natural_questions(judged):
    assert judged("nqs").prompts(1) == ["Q: when does the harvest begin in the valley?\n\nA:"]
    one = judged("nqs", 1)
    assert one.prompts(0) == [
        "Q: who built the first lighthouse on the bay?\n\nA: John Smith\n\n"
        "Q: what colour is the inside of a kiwi?\n\nA:"
    ]
    assert one.score(0, "Bright Green") == {"em": 1}
    assert one.score(0, "greenish") == {"em": 0}


def test_web_questions(judged):
    assert judged("webqs").prompts(0) == ["Q: what did the baker of the town bake?\n\nA:"]
    one = judged("webqs", 1)
    assert one.prompts(1)[0].startswith("Q: what ")
    assert one.prompts(1)[0].endswith("\n\nQ: who taught the painter?\n\nA:")
    assert one.score(0, "bread") == {"em": 1}
    assert one.score(1, "Anna") == {"em": 0}
