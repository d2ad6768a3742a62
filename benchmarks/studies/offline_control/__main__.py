"""Offline agents on data of our own SAC: cloning, TD3+BC, IQL and CQL, as shares of the way from random to expert.

    run --data medium=DATASET medium-expert=DATASET --expert HalfCheetah-v5=RUN

A data set says itself of which environment it is. A score is 100 * (return - random) / (expert - random): random is measured
with uniform actions unless it is given, expert is a number or a run whose policy is played.
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.offline_control.figure import figures
from benchmarks.studies.offline_control.measure import measure
from benchmarks.studies.offline_control.setting import OfflineControl
from benchmarks.studies.offline_control.tables import tables

STUDY = Study("offline_control", (OfflineControl,), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
