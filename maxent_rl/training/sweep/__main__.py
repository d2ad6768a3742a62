"""The process of one job: `python -m maxent_rl.training.sweep SWEEP_FOLDER JOB_NAME --token ... --parent ...`."""

import sys

from maxent_rl.training.sweep.worker import main

sys.exit(main(sys.argv[1:]))
