"""Training: the loops, evaluation, checkpoints, records and plots; `train()`, `resume()` and `load_policy()`."""

from maxent_rl.training.config import RunConfig
from maxent_rl.training.policy import Policy, load_policy
from maxent_rl.training.runner import TrainResult, resume, run_training, train

__all__ = ["Policy", "RunConfig", "TrainResult", "load_policy", "resume", "run_training", "train"]
