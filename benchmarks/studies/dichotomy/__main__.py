"""Luck and skill: cloning, asking for a high return, and dichotomy of control, where chance decides more and more.

Every method is a table, trained to the end on the exact objective of its data (`tabular`), and every return is worked out
exactly: what is seen is what the objectives say, not what networks make of them. Cloning and asking for the largest return
need no training then: they are shares of the data. Each seed has data of its own.
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.dichotomy.figure import figures
from benchmarks.studies.dichotomy.measure import measure
from benchmarks.studies.dichotomy.setting import Dichotomy
from benchmarks.studies.dichotomy.tables import tables

STUDY = Study("dichotomy", (Dichotomy,), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
