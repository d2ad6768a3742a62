"""Sweeps: many runs as one piece of work, on local processes or on a Ray cluster, safe to stop and to start again.

What differs only in numbers and seeds trains side by side in one program; everything else is a job of its own, each an
ordinary run in a folder of its own. `run_sweep` does it all; `experiments/sweep.py` is its command line.
"""

from maxent_rl.sweep.driver import SweepResult, run_sweep
from maxent_rl.sweep.jobs import Job, Sweep, expand

__all__ = ["Job", "Sweep", "SweepResult", "expand", "run_sweep"]
