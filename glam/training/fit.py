"""Train a run to its end, from its newest checkpoint or from the beginning."""

import gc
import logging
import os
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning import Callback, Trainer

from glam.config import RunConfig
from glam.data import PreparedData, TrainStream
from glam.errors import Stopped, UserError
from glam.evaluation.held_out import evaluate_domains, mean_loss
from glam.kernels import library
from glam.log import log
from glam.machine.energy_by_phase import EnergyByPhase
from glam.machine.peaks import peak_flops, utilization
from glam.machine.processes import Processes
from glam.machine.resources import Resources, frozen_gc, tune_malloc
from glam.model import Glam
from glam.model.gradient_pool import pooling
from glam.model.initial import initial_weights
from glam.progress import bar, stage
from glam.runs.checkpoints import Checkpoint, newest_checkpoint, step_folders
from glam.runs.folder import RunFolder
from glam.runs.identity import code_fingerprint
from glam.runs.machine import Machine, continued, deciding, machine_of, segments
from glam.runs.machine import in_words as machines_in_words
from glam.training.callbacks import MetricsLogger, ProgressBar, Tracker, TrainingClock
from glam.training.checkpoint import PREFIX, FolderCheckpointIO, remove_partial
from glam.training.engine import Engine
from glam.training.metrics import Metrics, MetricsFile, columns
from glam.training.module import Batches, TrainingModule
from glam.training.prefetch import OnDevice
from glam.training.rollback import Rollback, in_words
from glam.training.saving import Checkpoints
from glam.training.train_state import Past, RunningMeans, TrainState, sparse_layers


class TrainingResult(NamedTuple):
    """A trained model, and what its training took."""

    status: str  # "done" | "diverged"
    why_diverged: str | None  # one clause; None where it is done
    model: Glam  # on the device it was trained on
    processes: Processes  # that hold parts of the model
    tokens: int
    train_seconds: float  # of training alone, all segments of the run together
    tokens_per_second: float
    peak_flops: float | None  # FLOP/s of all devices; None where nobody has said
    skipped_steps: int
    rollbacks: tuple[Rollback, ...]
    joules: Callable[[], dict[str, float]]  # so far, by activity
    load: list[dict[str, float]]  # by MoE layer: busiest, idlest over the mean, dropped share
    machine: Machine  # that it was trained on, and those before where it was moved


def train(
    config: RunConfig,
    prepared: PreparedData,
    run: RunFolder,
    resources: Resources,
    *,
    engine: Engine,
    energy_by_phase: EnergyByPhase | None = None,
    tracker: Tracker | None = None,
) -> TrainingResult:
    """Continue from the run's newest checkpoint, or begin. The caller holds the run's lock.

    Raises UserError when the checkpoint was made by other code or data; one of another processor
    or other kernels is warned of. Raises Stopped when it was asked to stop and has saved.
    """
    torch.set_num_threads(resources.threads)
    tune_malloc()
    fingerprints = {"code": code_fingerprint(), "data": prepared.fingerprint}
    found = _resumable(run, fingerprints, engine.processes)
    machine = _machine(run, found, resources, engine.processes)
    checkpoints = engine.checkpoints({**fingerprints, "machine": machine})
    peak = peak_flops(config, resources)
    segment = _Segment(config, prepared, run, resources, engine, checkpoints, tracker, peak)
    module = segment.build(found, energy_by_phase or EnergyByPhase())
    if found is not None and found.manifest.status != "training":
        checkpoint = checkpoints.load_checkpoint(found.path)
        engine.load(module, checkpoint["state_dict"])
        module.on_load_checkpoint(checkpoint)
        if engine.processes.is_main:
            remove_partial(run.checkpoints, up_to=found.manifest.step)
    else:
        segment.fit(module, found)
        while module.train_state.watch.goes_back:
            found, past = segment.go_back(module.train_state)
            energy = module.train_state.energy_by_phase
            del module
            gc.collect()  # two models are never in memory at once
            module = segment.build(found, energy, past)
            segment.fit(module, found)
    engine.place(module.model)
    return _result(module, engine.processes, machine, segment.peak_flops)


def _resumable(
    run: RunFolder, fingerprints: dict[str, str], processes: Processes
) -> Checkpoint | None:
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    found = newest_checkpoint(run.checkpoints, processes)
    if found is None and step_folders(run.checkpoints) and processes.is_main:
        log.warning("no checkpoint can be read; the run starts over")
    for what, now in fingerprints.items():
        if found is not None and getattr(found.manifest, what) != now:
            raise UserError(
                f"{run.path.name} was started with other {what}, so it cannot be resumed; "
                f"rerun=true starts it over"
            )
    if processes.is_main and found is not None and found.manifest.status == "training":
        log.info(f"resuming from step {found.manifest.step:,}")
    return found


def _machine(
    run: RunFolder, found: Checkpoint | None, resources: Resources, processes: Processes
) -> Machine:
    """What this run is computed on; a warning where it was begun on what rounds differently."""
    before: Machine | None = found.manifest.machine if found else None
    now = continued(before, machine_of(resources))
    if before is not None and deciding(before) != deciding(now) and processes.is_main:
        then, here = machines_in_words([segments(before)[-1], now])
        log.warning(
            f"{run.path.name} continues on {here}, its checkpoint is from {then}: they round "
            f"differently, so it will not end bit for bit as on one of them"
        )
    return now


class _Segment(NamedTuple):
    """Trains from a checkpoint, or from the beginning, until the run ends or has to go back. Every
    segment has a model, an optimizer and a Trainer of its own, as a resumed run has: going back is
    resuming from an earlier checkpoint."""

    config: RunConfig
    prepared: PreparedData
    run: RunFolder
    resources: Resources
    engine: Engine
    checkpoints: FolderCheckpointIO
    tracker: Tracker | None
    peak_flops: float | None

    def build(
        self, found: Checkpoint | None, energy_by_phase: EnergyByPhase, past: Past | None = None
    ) -> TrainingModule:
        """The model: with its initial values, or for the checkpoint that `fit` loads."""
        config, engine, device = self.config, self.engine, self.resources.device
        with stage("building the model"):
            dtype = torch.bfloat16 if self.resources.precision == "bfloat16" else torch.float32
            if device == "cpu":
                library()  # compiled now, not in the time of the first step
            with torch.device("meta"):
                model = Glam(
                    config.model_as_built,
                    dtype=dtype,
                    rematerialize=config.training.rematerialize,
                    backend=engine.backend,
                )
            engine.materialize(model, config.seed if found is None else None)
            means = RunningMeans(
                num_sources=len(self.prepared.sources),
                load_shape=(config.model.num_moe_layers, config.model.num_experts),
                device=device,
                processes=engine.processes,
            )
            train_state = TrainState(means, config.training, energy_by_phase, past)
            module = engine.module(model, config, train_state)
            if found is None and config.model.init_from is not None:
                engine.load(module, initial_weights(config, PREFIX))
            return module

    def fit(self, module: TrainingModule, found: Checkpoint | None) -> None:
        """Raises Stopped where it was asked to stop."""
        with frozen_gc(), pooling():
            saving = self._fit(module, found)
        _leave_if_asked(saving, module.train_state.step)

    def go_back(self, train_state: TrainState) -> tuple[Checkpoint | None, Past]:
        """The checkpoint to go on from, None for the beginning, and what is kept."""
        processes, wanted = self.engine.processes, train_state.watch.healthy()
        found = newest_checkpoint(self.run.checkpoints, processes, up_to=wanted) if wanted else None
        step = found.manifest.step if found else 0
        past = train_state.go_back(step)
        if processes.is_main:
            if step < wanted:
                log.warning(f"there is no whole checkpoint of step {wanted:,} to go back to")
            number = f"{len(past.rollbacks)} of {self.config.training.max_rollbacks}"
            log.warning(f"{in_words(past.rollbacks[-1])} (rollback {number})")
            if self.tracker is not None:
                tokens = step * self.config.training.tokens_per_step
                self.tracker.go_back(tokens, [asdict(one) for one in past.rollbacks])
        return found, past

    def _fit(self, module: TrainingModule, found: Checkpoint | None) -> Checkpoints:
        config, training, engine = self.config, self.config.training, self.engine
        start, train_state = found.manifest.step if found else 0, module.train_state
        metrics = self._metrics()
        metrics.cut_back(start)
        saving = Checkpoints(
            self.run,
            training,
            train_state,
            metrics,
            self.checkpoints.finish,
            engine.processes,
            has_gone_back=len(train_state.watch.rollbacks) > 0,
        )
        stream = TrainStream(
            self.prepared, training.sequence_length, training.batch_size, config.seed
        )
        logger = MetricsLogger(
            config,
            train_state,
            metrics,
            self.tracker,
            self.prepared.sources,
            partial(self._evaluate, module.model),
        )
        with bar("train", training.num_steps, "steps") as shown, _quiet_lightning():
            shown.start_at(start)
            callbacks: list[Callback] = [
                *engine.callbacks(),
                TrainingClock(train_state),
                logger,
                ProgressBar(train_state, shown, self._utilization),
                saving,
            ]
            trainer = _Loop(callbacks, engine.trainer_arguments(self.checkpoints))
            rows = Batches(stream, train_state, training.num_steps, engine.processes)
            batches = OnDevice(rows, self.resources.device)
            try:
                _run(trainer, module, batches, found)
            finally:
                saving.request.leave()
        return saving

    def _utilization(self, tokens_per_second: float) -> float | None:
        return utilization(self.config, tokens_per_second, self.peak_flops)

    def _evaluate(self, model: Glam) -> dict[str, float]:
        training = self.config.training
        results = evaluate_domains(
            model,
            self.prepared,
            sequence_length=training.sequence_length,
            batch_size=training.batch_size,
            max_tokens=self.config.evaluation.tokens_per_point,
            processes=self.engine.processes,
        )
        losses = {domain: result.loss for domain, result in results.items()}
        return losses | {"mean": mean_loss(results)}

    def _metrics(self) -> Metrics:
        if not self.engine.processes.is_main:
            return Metrics()
        layers, num_experts = sparse_layers(self.config.model), self.config.model.num_experts
        header = columns(self.prepared.sources, self.prepared.domains, layers, num_experts)
        return MetricsFile(self.run.metrics_file, header)


class _NoSignals:
    """In place of Lightning's handlers of signals: `StopRequest` has them."""

    received_sigterm = False

    def register_signal_handlers(self) -> None: ...

    def teardown(self) -> None: ...


class _Loop(Trainer):
    """Lightning's loop alone: our callbacks log, draw, save, count and hear signals."""

    def __init__(self, callbacks: list[Callback], arguments: dict[str, Any]) -> None:
        super().__init__(
            **arguments,
            max_epochs=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            callbacks=callbacks,
            # No folder: Lightning would take up a checkpoint of its own (hpc_ckpt_1.ckpt) that it
            # finds there, with the counters at 0, wherever Slurm's variables are set.
            default_root_dir=os.devnull,
        )
        vars(self)["_signal_connector"] = _NoSignals()


def _run(
    trainer: Trainer,
    module: TrainingModule,
    batches: OnDevice,
    found: Checkpoint | None,
) -> None:
    try:
        trainer.fit(module, batches, ckpt_path=found.path if found else None, weights_only=True)
    except SystemExit as leaving:
        if isinstance(leaving.__context__, KeyboardInterrupt):  # Lightning's answer to it
            raise leaving.__context__ from None
        raise


def _leave_if_asked(saving: Checkpoints, step: int) -> None:
    asked = saving.request.signal
    if asked is None:
        return
    line = f"stopped at step {step:,}; the same command resumes from step {saving.saved_step:,}"
    raise Stopped(line, asked)


@contextmanager
def _quiet_lightning() -> Generator[None]:
    """Without Lightning's banners and advice."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _result(
    module: TrainingModule, processes: Processes, machine: Machine, peak: float | None
) -> TrainingResult:
    train_state, model = module.train_state, module.model
    seconds = train_state.clock.seconds
    load = [
        {
            "layer": layer,
            "busiest": max(found.shares) * len(found.shares),
            "idlest": min(found.shares) * len(found.shares),
            "dropped": found.dropped,
        }
        for layer, found in train_state.means.load(model.config).items()
    ]
    return TrainingResult(
        status=module.status,
        why_diverged=train_state.why_diverged,
        model=model,
        processes=processes,
        tokens=train_state.tokens,
        train_seconds=seconds,
        tokens_per_second=train_state.tokens / seconds if seconds else float("nan"),
        peak_flops=peak,
        skipped_steps=train_state.skipped,
        rollbacks=train_state.watch.rollbacks,
        joules=train_state.joules,
        load=load,
        machine=machine,
    )
