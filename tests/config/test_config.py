"""The configuration: typed, checked, and the same from Python as from YAML."""

import dataclasses
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glam.config import (
    AdafactorConfig,
    AdamWConfig,
    DataConfig,
    DedupConfig,
    EmbeddedCorpusConfig,
    EvaluationConfig,
    FilterConfig,
    GenerateTaskConfig,
    HardwareConfig,
    LinearScheduleConfig,
    ModelConfig,
    PlanTaskConfig,
    RouterConfig,
    RunConfig,
    SlurmTasksConfig,
    StudyConfig,
    TaskConfig,
    TrainingConfig,
)
from glam.errors import UserError
from glam.machine.resources import resolve
from glam.runs.identity import run_id


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: ModelConfig(top_k=17), "model.top_k=17 but model.num_experts=16"),
        (lambda: ModelConfig(num_heads=5), "model.num_heads=5 does not divide model.d_model=64"),
        (lambda: ModelConfig(num_heads=5), "try 2 or 4|try 4 or 8|try 4"),
        (lambda: ModelConfig(d_model=0), "model.d_model=0 must lie between 1 and"),
        (lambda: ModelConfig(vocab_size=-3), "model.vocab_size=-3 must lie between 1 and"),
        (lambda: ModelConfig(dispatcher="group"), "did you mean grouped"),
        (lambda: RouterConfig(balance_loss="gshart"), "did you mean gshard"),
        (lambda: AdamWConfig(learning_rate=-1), "optimizer.learning_rate=-1 must be positive"),
        (lambda: AdamWConfig(learning_rate=float("nan")), "optimizer.learning_rate=nan"),
        (lambda: AdafactorConfig(beta2=1.5), "optimizer.beta2=1.5 must lie between"),
        (lambda: TrainingConfig(tokens=0), "training.tokens=0 must lie between 1"),
        (lambda: TrainingConfig(spike_window=1), "training.spike_window=1 must lie between 2"),
        (lambda: TrainingConfig(spike_threshold=0), "training.spike_threshold=0 must be positive"),
        (lambda: TrainingConfig(max_rollbacks=-1), "training.max_rollbacks=-1 must lie between 0"),
        (lambda: TrainingConfig(rollback_every=0), "training.rollback_every=0 must be positive"),
        (lambda: DataConfig(held_out_fraction=0.9), "data.held_out_fraction=0.9 must lie"),
        (lambda: RunConfig(seed=-1), "seed=-1 must lie between"),
        (
            lambda: RunConfig(training=TrainingConfig(update_in_backward=True)),
            "update_in_backward=true but optimizer=adamw needs all gradients at once; take",
        ),
        (
            lambda: TrainingConfig(batch_size=12, accumulate=5),
            "accumulate=5 does not divide training.batch_size=12; try 4",
        ),
        (
            lambda: TrainingConfig(accumulate=2, update_in_backward=True),
            "accumulate=2 adds gradients, of which training.update_in_backward=true keeps none",
        ),
        (
            lambda: RunConfig(
                training=TrainingConfig(accumulate=2),
                hardware=HardwareConfig(
                    device="cpu",
                    runtime="torch_tpu",
                    mesh={"a": 2},
                    rules={"batch": "a"},
                    peak_tflops=1,
                    share_of_peak=0.5,
                    memory_gb=1,
                ),
            ),
            "accumulate=2 is for one device",
        ),
        (lambda: HardwareConfig(compile="all"), "hardware.compile"),
        (
            lambda: HardwareConfig(
                name="tpu_v4_64", device="tpu", mesh={"expert": 64}, topology="v5e:8x8"
            ),
            "hardware.topology=v5e:8x8 is of another TPU than hardware=tpu_v4_64",
        ),
        (lambda: RunConfig(run="runs/x"), "run=runs/x is for task=evaluate"),
        (lambda: RunConfig(runs_dir=""), "runs_dir is empty"),
        (lambda: ModelConfig(name="../x"), "model.name='../x' becomes part of a folder's name"),
        (lambda: StudyConfig(name="a/b"), "study.name='a/b' becomes part"),
        (lambda: ModelConfig(d_model=10**12 + 1), "model.d_model=1000000000001 must lie between"),
        (lambda: ModelConfig(num_layers=10**7), "model.num_layers=10000000 must"),
        (lambda: ModelConfig(d_ff=-(10**400)), "model.d_ff=-1e400 must lie between"),
        (lambda: ModelConfig(capacity_factor=1e300), "at most 1e"),
        (
            lambda: RunConfig(model=ModelConfig(priority="gate")),
            "model.priority=gate says who gets an expert's slots, and model.dispatcher=grouped has",
        ),
        (
            lambda: TrainingConfig(seconds=9, tokens_per_parameter=5),
            "training.seconds=9 and training.tokens_per_parameter=5 are two budgets",
        ),
        (
            lambda: TrainingConfig(tokens_per_parameter=0),
            "training.tokens_per_parameter=0 must be positive",
        ),
        (lambda: TrainingConfig(seconds=1e300), "training.seconds=1e.300 must lie between"),
        (lambda: TrainingConfig(seconds=1e15), "training.seconds=10+.0 must lie between 0.001 and"),
        (lambda: TrainingConfig(seconds=1e-320), "training.seconds=1e-320 must lie between"),
        (lambda: HardwareConfig(memory_gb=1e300), "hardware.memory_gb=1e.300 must lie between"),
        (lambda: HardwareConfig(mesh={"a": 10**30}), "hardware.mesh.a=1e30 must be at most"),
        (lambda: HardwareConfig(name="x/../../y"), "hardware.name='x/../../y' becomes part"),
        (lambda: RunConfig(runs_dir="a/" * 3000), "runs_dir is longer than a path may be"),
        (lambda: RunConfig(cache_dir="b" * 300), "cache_dir is longer than a path may be"),
        (
            lambda: RunConfig(data=DataConfig(corpus=EmbeddedCorpusConfig(name="local"))),
            "data.corpus.name=local: .* type data/corpus=local",
        ),
        (lambda: RunConfig(optimizer=AdamWConfig(name="adafactor")), "type optimizer=adafactor"),
        (lambda: RunConfig(schedule=LinearScheduleConfig(name="paper")), "type schedule=paper"),
        (lambda: RunConfig(task=TaskConfig(name="plan")), "type task=plan"),
        (lambda: RunConfig(task=PlanTaskConfig(name="train")), "type task=train"),
        (lambda: FilterConfig(num_features=10**12), "data.filter.num_features"),
        (
            lambda: FilterConfig(scores="published", calibrate=False, threshold=float("nan")),
            "data.filter.threshold=nan must lie",
        ),
        (lambda: SlurmTasksConfig(time="soon"), "data.slurm.time='soon' is no time .*; give hours"),
        (lambda: SlurmTasksConfig(options={"a": {"b": 1}}), "data.slurm.options.a=.* give words"),
        (lambda: SlurmTasksConfig(options={"a": "x\ny"}), "data.slurm.options.a=.* give words"),
        (lambda: DedupConfig(rows=9), "data.dedup.rows=9 must lie between 1 and 8"),
        (lambda: DedupConfig(bands=0), "data.dedup.bands=0 must lie between 1 and 128"),
        (lambda: DedupConfig(ngram=0), "data.dedup.ngram=0 must lie between 1 and 64"),
        (lambda: DedupConfig(threshold=1.5), "data.dedup.threshold=1.5 must lie between 0 and 1"),
        (lambda: GenerateTaskConfig(temperature=1e-40), "task.temperature=1e-40 is below 0.001; 0"),
        (lambda: GenerateTaskConfig(prompt="caf\udce9"), r"not UTF-8 \(at character 4\)"),
    ],
)
def test_an_impossible_value_is_refused_by_key_and_value(wrong, words):
    with pytest.raises(UserError, match=words):
        wrong()


def test_the_dense_twin_may_keep_its_top_k():
    twin = ModelConfig(num_experts=1)
    assert twin.top_k == 2
    assert not twin.is_sparse


def test_the_dense_twin_costs_the_same_flops_but_for_the_gate():
    sparse, twin = ModelConfig(num_experts=16), ModelConfig(num_experts=1)
    gate = 2 * sparse.d_model * sparse.num_experts * sparse.num_moe_layers
    assert sparse.flops_per_token(128) - twin.flops_per_token(128) == gate


def test_more_experts_add_parameters_and_hardly_any_active_ones():
    small, large = ModelConfig(num_experts=8), ModelConfig(num_experts=64)
    experts = 2 * small.d_model * small.d_ff * small.num_moe_layers
    gates = (small.d_model + 1) * small.num_moe_layers
    assert large.num_params - small.num_params == 56 * (experts + gates)
    assert large.num_active_params - small.num_active_params == 56 * gates


def test_flops_per_token_match_a_sum_over_matrix_products():
    config, S = ModelConfig(num_layers=2, num_experts=4), 16
    M, H, V, E = config.d_model, config.d_ff, config.vocab_size, config.num_experts
    by_hand = 0
    for layer in range(config.num_layers):
        by_hand += 4 * 2 * M * M * S  # query, key, value, output
        by_hand += sum(2 * 2 * M * (t + 1) for t in range(S))  # scores and weighted values
        by_hand += (2 * M * E + 2 * 2 * 2 * M * H) * S if layer % 2 else 3 * 2 * M * H * S
    by_hand += 2 * M * V * S
    assert config.flops_per_token(S) * S == by_hand


def test_every_field_says_whether_it_determines_the_result():
    aside = {
        f"{section.name}.{field.name}"
        for section in dataclasses.fields(RunConfig)
        if dataclasses.is_dataclass(value := getattr(RunConfig(), section.name))
        for field in dataclasses.fields(value)
        if not field.metadata.get("result", True)
    }
    assert {"model.name", "training.log_every", "training.checkpoint_minutes"} <= aside
    assert "model.d_model" not in aside


@given(
    tokens=st.integers(1, 300),
    num_experts=st.integers(2, 64),
    top_k=st.integers(1, 2),
    factor=st.floats(0.01, 8),
    least=st.integers(1, 9),
)
def test_an_expert_has_the_fewest_slots_that_hold_its_even_share_times_the_factor(
    tokens, num_experts, top_k, factor, least
):
    model = ModelConfig(
        num_experts=num_experts, top_k=top_k, capacity_factor=factor, min_capacity=least
    )
    wanted = factor * top_k * tokens / num_experts
    slots = next(n for n in range(1, 5000) if n >= wanted)
    assert model.slots_per_expert(tokens) == min(tokens, max(least, slots))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_fewshot": [0, 0]}, "evaluation.num_fewshot=0,0 must be different whole numbers"),
        (
            {"num_fewshot": ["few"]},
            "num_fewshot=few must be different whole numbers from 0 to 10,000",
        ),
        ({"num_fewshot": ["own", "own"]}, "or own; for example evaluation.num_fewshot=0,1,own"),
        ({"num_fewshot": [-1]}, "evaluation.num_fewshot=-1 must be different whole numbers"),
        ({"name": "held_out", "limit": 3}, "evaluation.limit is about tasks, and evaluation=held"),
        ({"limit": 0}, "evaluation.limit=0 must be positive"),
        ({"max_length": 1}, "evaluation.max_length=1 must lie between 2 and"),
    ],
)
def test_an_evaluation_that_makes_no_sense_is_refused(given, words):
    with pytest.raises(UserError) as refused:
        EvaluationConfig(**given)
    assert words in str(refused.value)


def test_an_axis_without_a_rule_is_split_by_none():
    described = {"peak_tflops": 1, "share_of_peak": 0.1, "memory_gb": 1}
    both = HardwareConfig(mesh={"all": 2}, rules={"batch": "all", "experts": None}, **described)
    assert both.rules == {"batch": "all"}
    assert both.shards("experts") == 1


def test_tokens_for_each_active_parameter_are_as_many_for_a_sparse_model_as_for_its_dense_twin():
    budget = TrainingConfig(tokens_per_parameter=5.5)
    sparse = RunConfig(training=budget)
    dense = replace(sparse, model=replace(sparse.model, num_experts=1))
    wide = replace(sparse, model=ModelConfig(d_model=128, d_ff=512))
    assert dense.training.tokens == round(5.5 * dense.model.num_active_params)
    assert sparse.training.tokens == dense.training.tokens < wide.training.tokens


def test_a_run_by_tokens_for_each_parameter_is_the_run_of_as_many_tokens():
    each = RunConfig(training=TrainingConfig(tokens_per_parameter=5.5))
    typed = RunConfig(training=TrainingConfig(tokens=each.training.tokens))
    resources = resolve(each)
    assert run_id(each, resources) == run_id(typed, resources)
