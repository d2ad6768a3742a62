"""Credit and shape of single responses: what eight papers on language models claim, each on a world that could show it.

Every policy is a table that learns by the library's objective; all seeds of a contender train in one program of seconds.
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.credit.figure import figures
from benchmarks.studies.credit.measure import measure
from benchmarks.studies.credit.setting import Credit
from benchmarks.studies.credit.tables import tables

STUDY = Study("credit", (Credit,), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
