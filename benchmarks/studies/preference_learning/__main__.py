"""Learning from preferences: cloning, cloning of what was preferred, four forms of CPL, and SAC for a fitted reward.

A half-trained SAC with noise on its actions plays Pendulum; a fully trained one judges segments of its episodes; 0, 10 and
30 % of the labels are turned round. The settings are the tables in `setting`.
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.preference_learning.figure import figures
from benchmarks.studies.preference_learning.measure import measure
from benchmarks.studies.preference_learning.setting import PreferenceLearning
from benchmarks.studies.preference_learning.tables import tables

STUDY = Study("preference_learning", (PreferenceLearning,), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
