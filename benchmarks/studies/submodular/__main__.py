"""Rewards with diminishing returns: submodular policy gradient against additive rewards, greedy plans and the optimum.

    run learning      plans, then trains everyone, environment by environment
    run throughput    steps per second of everything

Everyone who learns in an environment has the same settings and as many steps (`tasks`), all seeds side by side.
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.submodular.figure import figures
from benchmarks.studies.submodular.measure import measure
from benchmarks.studies.submodular.setting import Learning, Throughput
from benchmarks.studies.submodular.tables import tables

STUDY = Study("submodular", (Learning, Throughput), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
