"""On-policy learning with many environments on the device: REPPO against PPO at equal environment steps.

    run brax          brax/halfcheetah with 64 environments, for two cores
    run together      the same, with episodes that begin and end together
    run playground    four tasks of MuJoCo Playground with 1,024 environments, for machines with an accelerator

All seeds of a contender train in one program. The settings are a table in `setting`; flags change them from call to call.
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.playground.figure import figures
from benchmarks.studies.playground.measure import measure
from benchmarks.studies.playground.setting import Brax, Playground, Together
from benchmarks.studies.playground.tables import tables

STUDY = Study("playground", (Brax, Together, Playground), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
