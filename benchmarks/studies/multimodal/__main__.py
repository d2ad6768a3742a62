"""How many right answers a policy holds: SAC against PMOE with every router, on tasks with several optima and on MuJoCo.

    run bandits      maxent/TwoOptima and maxent/FourOptima
    run multigoal    maxent/MultiGoal
    run mujoco       HalfCheetah, Hopper, Walker2d, Ant
    run gradients    the router's gradient estimates against the exact gradient

All seeds of a contender train in one program. The settings are two tables in `setting`; flags change them from call to call.
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.multimodal.figure import figures
from benchmarks.studies.multimodal.measure import measure
from benchmarks.studies.multimodal.setting import Bandits, Gradients, Mujoco, Multigoal
from benchmarks.studies.multimodal.tables import tables

STUDY = Study("multimodal", (Bandits, Multigoal, Mujoco, Gradients), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
