"""Joules go to what was going on when they were drawn."""

from glam.machine.energy_by_phase import EnergyByPhase


class Meter:
    def __init__(self):
        self.shown = 0.0

    def start(self):
        pass

    def joules(self):
        return self.shown


def test_each_purpose_has_what_was_drawn_while_it_went_on():
    meter = Meter()
    energy_by_phase = EnergyByPhase(meter)
    with energy_by_phase.on("preparation"):
        meter.shown += 5
    meter.shown += 100  # between two purposes: nobody's
    energy_by_phase.set_phase("training")
    meter.shown += 7
    with energy_by_phase.on("evaluation"):
        meter.shown += 2
    meter.shown += 3  # training again
    energy_by_phase.set_phase(None)
    meter.shown += 100
    assert energy_by_phase.joules == {"training": 10, "evaluation": 2, "preparation": 5}


def test_segments_add_up_and_a_reading_in_between_loses_nothing():
    meter = Meter()
    energy_by_phase = EnergyByPhase(meter)
    energy_by_phase.add({"training": 50.0, "evaluation": 4.0, "preparation": 3.0})
    energy_by_phase.set_phase("training")
    for _ in range(3):
        meter.shown += 1
        assert energy_by_phase.joules["evaluation"] == 4
    assert energy_by_phase.joules == {"training": 53, "evaluation": 4, "preparation": 3}


def test_what_fails_ends_its_purpose():
    meter = Meter()
    energy_by_phase = EnergyByPhase(meter)
    try:
        with energy_by_phase.on("evaluation"):
            meter.shown += 1
            raise RuntimeError
    except RuntimeError:
        meter.shown += 100
    assert energy_by_phase.joules["evaluation"] == 1


def test_without_a_meter_nothing_is_known_to_be_spent():
    energy_by_phase = EnergyByPhase()
    with energy_by_phase.on("training"):
        pass
    assert set(energy_by_phase.joules.values()) == {0.0}
