"""Do teachers of language models do what their papers say: sample routing, a warm start that keeps entropy, a soup.

    run srpo          GRPO, SDPO and SRPO from one warm start in which half of the answers stood before their prompts
    run warm-start    likelihood and Entropy-SFT, and GRPO after each
    run salsa         PPO with the policy that it began with as its reference, and with a soup of two

All seeds of a contender learn in one program. Sources: SRPO (arXiv 2604.02288), SDPO (arXiv 2601.20802), Light-IF
(arXiv 2508.03178), SALSA (arXiv 2411.01798).
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.teachers.figure import figures
from benchmarks.studies.teachers.measure import measure
from benchmarks.studies.teachers.setting import Routing, Soups, WarmStarts
from benchmarks.studies.teachers.tables import tables

STUDY = Study("teachers", (Routing, WarmStarts, Soups), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
