"""Every named objective on countdown, scratch and modular addition, at equal budgets: with defaults, and tuned alike.

    run defaults    all with one learning rate
    run tuned       each with the learning rate that the same search has found for it

All begin from the same warm-started policies. Five policies learn side by side in one program; the settings are tables in
`setting`, and flags choose among tasks and competitors.
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.objectives.figure import figures
from benchmarks.studies.objectives.measure import measure
from benchmarks.studies.objectives.setting import Defaults, Tuned
from benchmarks.studies.objectives.tables import tables

STUDY = Study("objectives", (Defaults, Tuned), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
