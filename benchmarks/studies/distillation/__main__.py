"""Distillation of SAC teachers: knowledge distillation, behaviour cloning, and ADPO with each anchor and both targets.

All seeds of a method learn in one program, from the same states and candidate actions. Teachers are trained where none are
given.
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.distillation.figure import figures
from benchmarks.studies.distillation.measure import measure
from benchmarks.studies.distillation.setting import Distillation
from benchmarks.studies.distillation.tables import tables

STUDY = Study("distillation", (Distillation,), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
