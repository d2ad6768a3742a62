"""Do methods for agents of many turns do what their papers say, on a task whose answers must be asked for.

    run empg      GRPO, EMPG, and either half of it: how fast, and who gives the gradient
    run epo       an entropy bonus alone, and beside it a corridor with a gradient and one without
    run aepo      four epochs on the same conversations, with a clip that keeps its gradient and one that does not
    run forks     rollouts that branch, with a penalty on branching in a row and without one
    run spear     Dr.BoT, with rewards for calls of a tool, with imitation of its own wins, and with both

All seeds of a contender learn in one program, from one warm start for each seed. Sources: EMPG (arXiv 2509.09265), EPO
(arXiv 2509.22576), agentic AEPO (arXiv 2510.14545), SPEAR (arXiv 2509.22601).
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.conversations.figure import figures
from benchmarks.studies.conversations.measure import measure
from benchmarks.studies.conversations.setting import PARTS
from benchmarks.studies.conversations.tables import tables

STUDY = Study("conversations", PARTS, measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
