"""The process of one job: `python -m maxent_rl.sweep SWEEP_FOLDER JOB_NAME --token ... --parent ...`."""

import sys

from maxent_rl.sweep.worker import main

sys.exit(main(sys.argv[1:]))
