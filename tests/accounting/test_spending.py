"""Joules go to what was going on when they were drawn."""

from glam.accounting import Spending


class Meter:
    def __init__(self):
        self.shown = 0.0

    def start(self):
        pass

    def joules(self):
        return self.shown


def test_each_purpose_has_what_was_drawn_while_it_went_on():
    meter = Meter()
    spending = Spending(meter)
    with spending.on("preparation"):
        meter.shown += 5
    meter.shown += 100  # between two purposes: nobody's
    spending.turn_to("training")
    meter.shown += 7
    with spending.on("evaluation"):
        meter.shown += 2
    meter.shown += 3  # training again
    spending.turn_to(None)
    meter.shown += 100
    assert spending.joules == {"training": 10, "evaluation": 2, "preparation": 5}


def test_segments_add_up_and_a_reading_in_between_loses_nothing():
    meter = Meter()
    spending = Spending(meter)
    spending.add({"training": 50.0, "evaluation": 4.0, "preparation": 3.0})
    spending.turn_to("training")
    for _ in range(3):
        meter.shown += 1
        assert spending.joules["evaluation"] == 4
    assert spending.joules == {"training": 53, "evaluation": 4, "preparation": 3}


def test_what_fails_ends_its_purpose():
    meter = Meter()
    spending = Spending(meter)
    try:
        with spending.on("evaluation"):
            meter.shown += 1
            raise RuntimeError
    except RuntimeError:
        meter.shown += 100
    assert spending.joules["evaluation"] == 1


def test_without_a_meter_nothing_is_known_to_be_spent():
    spending = Spending()
    with spending.on("training"):
        pass
    assert set(spending.joules.values()) == {0.0}
