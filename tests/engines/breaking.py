"""A run that saves after every step and fails before one."""

from dataclasses import replace

import pytest

from glam.training.module import TrainingModule


class BrokenOffError(Exception):
    pass


def break_off(run, path, config, step):
    """`run(path, config)` until before `step`."""
    once = TrainingModule.training_step

    def training_step(self, batch, batch_idx):
        if self.train_state.step == step:
            raise BrokenOffError
        return once(self, batch, batch_idx)

    saving = replace(config, training=replace(config.training, checkpoint_minutes=1e-9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", training_step)
        with pytest.raises(BrokenOffError):
            run(path, saving)
