"""What a run promises under kills, full disks, damaged files and impatient people.

run kills       runs that are killed at random moments, or whose disk fills up, and that go on
run inputs      damaged and hostile files, and the answer to each
run commands    command lines drawn at random, every other of them wrong
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study, no_figures
from benchmarks.studies.faults.measure import measure
from benchmarks.studies.faults.setting import CommandLines, Inputs, Kills
from benchmarks.studies.faults.tables import tables

STUDY = Study("faults", (Kills, Inputs, CommandLines), measure, tables, no_figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
