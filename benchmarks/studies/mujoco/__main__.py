"""SAC, its kin and PPO on Gymnasium's MuJoCo tasks, at equal steps, beside what others have published.

    run short    100,000 steps for all
    run long     300,000 steps for SAC and for the efficient preset
    run trials   the efficient preset with one thing changed, 15,000 steps, on other seeds

All seeds of a contender train in one program; a cut run goes on where it was. The settings are a table in `setting`; flags
choose among contenders and tasks, so that it can be done piece by piece.
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.mujoco.figure import figures
from benchmarks.studies.mujoco.measure import measure
from benchmarks.studies.mujoco.setting import Long, Short, Trials
from benchmarks.studies.mujoco.tables import tables

STUDY = Study("mujoco", (Short, Long, Trials), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
