"""Training: the loops, evaluation, checkpoints, records and plots; `train()`, `resume()` and `load_policy()`."""

from maxent_rl.runs.config import RunConfig
from maxent_rl.runs.policy import Policy, load_policy
from maxent_rl.training.runner import TrainResult, resume, run_training, train

__all__ = ["Policy", "RunConfig", "TrainResult", "load_policy", "resume", "run_training", "train"]
