"""Which offline method works on which data: nine agents on five kinds of data of several online runs, over TQ and SACo.

Online runs of dqn-online make the data; TQ and SACo are measured; every agent learns from every data set, all seeds in one
program. All runs in this process, so that what has been compiled serves again.
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.dataset.figure import figures
from benchmarks.studies.dataset.measure import measure
from benchmarks.studies.dataset.setting import DatasetPerspective
from benchmarks.studies.dataset.tables import tables

STUDY = Study("dataset", (DatasetPerspective,), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
