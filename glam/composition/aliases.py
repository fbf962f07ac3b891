"""Names that other libraries give to our keys: a misspelt key is told the key that it means."""

from glam.composition.keys import known_keys
from glam.errors import nearest

ALIASES: dict[str, tuple[str, ...]] = {
    "model.num_layers": ("n_layers", "n_layer", "layers", "num_hidden_layers", "depth"),
    "model.d_model": (
        *("hidden_size", "n_embd", "n_embed", "dim", "width", "d_embed", "embed_dim", "model_dim"),
        *("emb_dim", "embedding_size"),
    ),
    "model.d_ff": (
        *("intermediate_size", "ffn_dim", "ffn_hidden_size", "d_hidden", "hidden_dim", "d_mlp"),
        *("mlp_dim", "n_inner", "moe_intermediate_size"),
    ),
    "model.num_heads": ("n_heads", "n_head", "heads", "num_attention_heads"),
    "model.d_head": ("head_dim", "d_kv", "head_size"),
    "model.num_experts": (
        *("n_experts", "experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    ),
    "model.top_k": ("k", "topk", "num_experts_per_tok", "experts_per_token", "num_selected"),
    "model.vocab_size": ("vocab", "n_vocab", "vocabulary", "vocabulary_size"),
    "model.capacity_factor": ("capacity", "expert_capacity", "moe_capacity_factor"),
    "model.priority": ("bpr", "batch_priority", "batch_prioritized_routing"),
    "model.router.bias_rate": ("bias_update_rate", "bias_update_speed", "expert_bias_rate"),
    "model.router.balance_loss": ("aux_loss", "load_balancing", "balance"),
    "model.router.balance_coefficient": (
        *("aux_loss_coef", "router_aux_loss_coef", "balance_coef", "aux_weight"),
        *("load_balancing_weight", "balance_weight"),
    ),
    "optimizer.learning_rate": ("lr", "rate", "base_lr", "max_lr", "peak_lr", "eta"),
    "optimizer.weight_decay": ("wd", "decay", "l2"),
    "optimizer.beta1": ("betas", "b1", "beta_1", "adam_beta1", "momentum"),
    "optimizer.beta2": ("b2", "beta_2", "adam_beta2"),
    "optimizer.eps": ("epsilon", "adam_epsilon"),
    "optimizer.clip_norm": (
        *("grad_clip", "max_grad_norm", "clip", "clip_grad", "gradient_clip_val", "grad_norm_clip"),
    ),
    "schedule.warmup_fraction": ("warmup", "warmup_ratio", "warmup_steps", "num_warmup_steps"),
    "schedule.final_fraction": ("min_lr", "min_lr_ratio", "final_lr", "lr_min"),
    "training.tokens": (
        *("steps", "max_steps", "num_steps", "train_steps", "iterations", "max_iters", "epochs"),
        *("num_train_epochs", "max_epochs", "num_tokens", "max_tokens", "train_tokens", "budget"),
    ),
    "training.batch_size": (
        *("bs", "batch", "batchsize", "train_batch_size", "micro_batch_size"),
        *("per_device_train_batch_size", "global_batch_size"),
    ),
    "training.sequence_length": (
        *("seq_len", "seqlen", "seq_length", "max_seq_len", "max_length", "max_len", "block_size"),
        *("context", "context_length", "ctx", "n_ctx", "n_positions", "max_position_embeddings"),
    ),
    "training.rematerialize": (
        *("gradient_checkpointing", "activation_checkpointing", "remat", "recompute"),
    ),
    "training.log_every": ("log_interval", "logging_steps", "log_every_n_steps", "log_freq"),
    "training.checkpoint_minutes": (
        *("save_steps", "save_every", "checkpoint_every", "ckpt_every", "save_interval"),
    ),
    "evaluation.points": ("eval_steps", "eval_every", "eval_interval", "val_check_interval"),
    "evaluation.tokens_per_domain": ("eval_tokens", "eval_iters", "eval_batches"),
    "hardware.device": ("accelerator", "gpu", "cuda"),
    "hardware.num_devices": ("devices", "gpus", "num_gpus", "n_gpus", "world_size"),
    "hardware.precision": ("dtype", "bf16", "fp16", "fp32", "amp", "torch_dtype"),
    "hardware.threads": ("num_threads", "cpus", "num_workers", "workers", "omp_num_threads"),
    "hardware.max_jobs": ("jobs", "n_jobs", "parallel_jobs"),
    "logger.project": ("wandb_project", "project_name"),
    "logger.name": ("wandb", "tracker", "report_to"),
    "task.prompt": ("text", "input"),
    "task.max_tokens": ("max_new_tokens", "length", "n_tokens"),
    "task.temperature": ("temp",),
    "task.samples": ("num_samples", "n_samples", "num_return_sequences"),
    "data.corpus.files": ("train_files", "train_file", "path", "paths", "data_dir", "dataset_path"),
    "seed": ("random_seed", "rng_seed", "rng", "manual_seed"),
    "run": (
        "ckpt",
        "ckpt_path",
        "checkpoint_path",
        "resume",
        "resume_from",
        "run_dir",
        "model_path",
    ),
    "runs_dir": ("output_dir", "out_dir", "save_dir", "log_dir", "logdir", "results_dir"),
    "cache_dir": ("cache", "data_cache"),
    "log_level": ("verbose", "verbosity", "loglevel", "quiet", "debug"),
}


def meant_by(key: str, names: list[str]) -> str:
    """A clause that names the key or group which `key` comes nearest to."""
    known = known_keys()
    section, _, last = key.rpartition(".")
    near = [name for name, others in ALIASES.items() if last.lower() in others and name in known]
    if near:
        # `task.max_tokens` and `training.max_tokens`: of two, the one in the section typed.
        inside = [name for name in near if name.startswith(f"{section}.")]
        return f"did you mean {(inside or near)[0]}?"
    # A last name that is right in the wrong section is nearer than any spelling.
    same_last = [name for name in known if name.rpartition(".")[2] == last]
    hint = f"did you mean {same_last[0]}?" if same_last else nearest(key, [*known, *names])
    if hint.startswith("choose from"):
        return "python run.py --help lists the keys"
    return hint
