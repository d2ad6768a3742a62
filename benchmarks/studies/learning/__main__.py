"""What plain training reaches: SAC, PPO, mixtures of experts, ADPO and a language model, as a user trains them.

Each run is repeated by the config.json that stands beside its records.
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.learning.measure import measure
from benchmarks.studies.learning.setting import Learning
from benchmarks.studies.learning.tables import figures, tables

STUDY = Study("learning", (Learning,), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
