"""Does entropy collapse, and what holds it: objectives for language models on tokens/countdown, at equal budgets.

    run objectives    grpo against what the entropy papers change of it
    run targets       how well an entropy is held

All seeds of a contender train in one program. What one part has measured with the same settings the other takes over. The
settings are the tables in `setting`; flags change them from call to call.
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.entropy_collapse.figure import figures
from benchmarks.studies.entropy_collapse.measure import measure
from benchmarks.studies.entropy_collapse.setting import Objectives, Targets
from benchmarks.studies.entropy_collapse.tables import tables

STUDY = Study("entropy_collapse", (Objectives, Targets), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
