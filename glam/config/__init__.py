"""The typed configuration of a run: every key of `conf/` is a field here, checked once.

The defaults are `glam_tiny` on the embedded corpora (a test compares them with the YAML), so the
classes are the library's API too: `Glam(ModelConfig(num_experts=16))`. A field whose metadata says
`result=False` cannot change what a run computes and stays out of its identity.
"""

from glam.config._data import (
    COMPONENTS,
    CorpusConfig,
    DataConfig,
    EmbeddedCorpusConfig,
    FilterConfig,
    LocalCorpusConfig,
    MixtureConfig,
)
from glam.config._hardware import LOGICAL_AXES, HardwareConfig, check_divisible
from glam.config._load import from_mapping
from glam.config._model import BALANCE_LOSSES, DISPATCHERS, ModelConfig, RouterConfig
from glam.config._run import (
    ROOT,
    TASKS,
    EvaluationConfig,
    GenerateTaskConfig,
    ListTaskConfig,
    LoggerConfig,
    PlanTaskConfig,
    RunConfig,
    StudyConfig,
    TaskConfig,
)
from glam.config._training import (
    AdafactorConfig,
    AdamWConfig,
    LinearScheduleConfig,
    OptimizerConfig,
    PaperScheduleConfig,
    ScheduleConfig,
    TrainingConfig,
)

__all__ = [
    "BALANCE_LOSSES",
    "COMPONENTS",
    "DISPATCHERS",
    "LOGICAL_AXES",
    "ROOT",
    "TASKS",
    "AdafactorConfig",
    "AdamWConfig",
    "CorpusConfig",
    "DataConfig",
    "EmbeddedCorpusConfig",
    "EvaluationConfig",
    "FilterConfig",
    "GenerateTaskConfig",
    "HardwareConfig",
    "LinearScheduleConfig",
    "ListTaskConfig",
    "LocalCorpusConfig",
    "LoggerConfig",
    "MixtureConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PaperScheduleConfig",
    "PlanTaskConfig",
    "RouterConfig",
    "RunConfig",
    "ScheduleConfig",
    "StudyConfig",
    "TaskConfig",
    "TrainingConfig",
    "check_divisible",
    "from_mapping",
]
