"""The keys of a run's `config.yaml` before it was sealed: what 0.1 and 0.2 wrote, by class.

A sealed file is known to be whole. One of those versions is whole when all of these stand in it;
what came later it cannot have. Nothing is ever added here.
"""

_WRITTEN = {
    "RunConfig": (
        "task model data optimizer schedule training hardware logger evaluation study seed "
        "rerun run runs_dir cache_dir "
    ),
    "TaskConfig": "name",
    "ModelConfig": (
        "name vocab_size num_layers d_model d_ff num_heads d_head num_experts top_k moe_every "
        "dispatcher capacity_factor min_capacity position_buckets position_max_distance "
        "logit_cap router "
    ),
    "RouterConfig": "normalize second_policy second_threshold balance_loss balance_coefficient",
    "DataConfig": (
        "corpus filter mixture left_out page_characters held_out_fraction tokenizer_megabytes seed "
    ),
    "EmbeddedCorpusConfig": "name sources",
    "LocalCorpusConfig": "name files curated held_out text_field",
    "FilterConfig": "name alpha threshold calibrate num_features ngrams folds",
    "MixtureConfig": "webpages wikipedia conversations forums books news",
    "AdamWConfig": "name learning_rate beta1 beta2 eps weight_decay clip_norm",
    "AdafactorConfig": "name learning_rate beta2 beta2_decay clip_threshold eps_factor eps_scale",
    "LinearScheduleConfig": "name warmup_fraction final_fraction",
    "PaperScheduleConfig": "name hold_steps",
    "TrainingConfig": (
        "tokens seconds batch_size sequence_length max_skipped rematerialize update_in_backward "
        "log_every checkpoint_minutes "
    ),
    "HardwareConfig": (
        "name device num_devices mesh rules scan topology threads precision max_jobs memory_gb "
        "watts peak_tflops share_of_peak share_source watts_source pue grid_kg_per_kwh "
        "grid_source "
    ),
    "LoggerConfig": "name project entity mode",
    "EvaluationConfig": "tokens_per_domain points tokens_per_point",
    "StudyConfig": "name compares baseline budget cell text_by",
}
KEYS = {kind: tuple(names.split()) for kind, names in _WRITTEN.items()}
