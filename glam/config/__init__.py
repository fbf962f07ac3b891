"""The typed configuration of a run: every key of `conf/` is a field here, checked when it is made.

The defaults are `glam_tiny` on the embedded corpora (a test compares them with the YAML), so the
classes are the library's API too: `Glam(ModelConfig(num_experts=16))`. A field whose metadata says
`result=False` cannot change what a run computes and stays out of its identity.

Optimizers, schedules, balance losses, dispatchers, corpora and launchers are found in their folders
(`docs/extend.md`): a class registers itself, and nothing else lists its name.
"""

from glam.config._checks import unencodable
from glam.config._data import (
    MOST_NGRAMS,
    ContaminationConfig,
    DataConfig,
    DedupConfig,
    FilterConfig,
    MixtureConfig,
)
from glam.config._evaluation import OWN, EvaluationConfig
from glam.config._executor import RayTasksConfig, SlurmTasksConfig
from glam.config._hardware import LOGICAL_AXES, HardwareConfig, check_divisible
from glam.config._load import GROUPS, TASK_CLASSES, from_mapping
from glam.config._model import ModelConfig, RouterConfig
from glam.config._run import ROOT, ExportConfig, LoggerConfig, RunConfig, StudyConfig
from glam.config._tasks import (
    LENGTH_PENALTIES,
    TASKS,
    AnalyzeTaskConfig,
    BiasTaskConfig,
    EvaluateTaskConfig,
    ExportTaskConfig,
    FewerExpertsConfig,
    GenerateTaskConfig,
    ListTaskConfig,
    PlanTaskConfig,
    ScaledExpertsConfig,
    TaskConfig,
)
from glam.config._training import TrainingConfig
from glam.config.balance_losses import BALANCE_LOSSES, BalanceLossConfig
from glam.config.corpora import (
    COMPONENTS,
    CORPORA,
    BadRecord,
    CorpusConfig,
    Fetch,
    Reader,
    Record,
    Role,
    Source,
)
from glam.config.corpora.embedded import EmbeddedCorpusConfig
from glam.config.corpora.hub import HubCorpusConfig, HubDataset
from glam.config.corpora.local import LocalCorpusConfig
from glam.config.dispatchers import DISPATCHERS, DispatcherConfig
from glam.config.launchers import LAUNCHERS, LauncherConfig
from glam.config.optimizers import AUTO, OPTIMIZERS, OptimizerConfig
from glam.config.optimizers.adafactor import AdafactorConfig
from glam.config.optimizers.adamw import AdamWConfig
from glam.config.paths import typed_path
from glam.config.schedules import SCHEDULES, ScheduleConfig
from glam.config.schedules.linear import LinearScheduleConfig
from glam.config.schedules.paper import PaperScheduleConfig

__all__ = [
    "AUTO",
    "BALANCE_LOSSES",
    "COMPONENTS",
    "CORPORA",
    "DISPATCHERS",
    "GROUPS",
    "LAUNCHERS",
    "LENGTH_PENALTIES",
    "LOGICAL_AXES",
    "MOST_NGRAMS",
    "OPTIMIZERS",
    "OWN",
    "ROOT",
    "SCHEDULES",
    "TASKS",
    "TASK_CLASSES",
    "AdafactorConfig",
    "AdamWConfig",
    "AnalyzeTaskConfig",
    "BadRecord",
    "BalanceLossConfig",
    "BiasTaskConfig",
    "ContaminationConfig",
    "CorpusConfig",
    "DataConfig",
    "DedupConfig",
    "DispatcherConfig",
    "EmbeddedCorpusConfig",
    "EvaluateTaskConfig",
    "EvaluationConfig",
    "ExportConfig",
    "ExportTaskConfig",
    "Fetch",
    "FewerExpertsConfig",
    "FilterConfig",
    "GenerateTaskConfig",
    "HardwareConfig",
    "HubCorpusConfig",
    "HubDataset",
    "LauncherConfig",
    "LinearScheduleConfig",
    "ListTaskConfig",
    "LocalCorpusConfig",
    "LoggerConfig",
    "MixtureConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PaperScheduleConfig",
    "PlanTaskConfig",
    "RayTasksConfig",
    "Reader",
    "Record",
    "Role",
    "RouterConfig",
    "RunConfig",
    "ScaledExpertsConfig",
    "ScheduleConfig",
    "SlurmTasksConfig",
    "Source",
    "StudyConfig",
    "TaskConfig",
    "TrainingConfig",
    "check_divisible",
    "from_mapping",
    "typed_path",
    "unencodable",
]
