"""Do prompts that change keep a policy learning: templates, and problems that the policy describes itself.

    run templates    one template against several, with and without rewards for form, and against synonyms
    run long         one template and eight, four times as long
    run synthesis    unchanged data against contexts that nobody learns and contexts that the policy learns to describe

All contenders of a part begin from the same warm start, seed by seed; all seeds learn in one program.
Sources: prompt augmentation (arXiv 2602.03190); a proposed form of Syn-GRPO (arXiv 2511.19343).
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.prompts.figure import figures
from benchmarks.studies.prompts.measure import measure
from benchmarks.studies.prompts.setting import Long, Synthesis, Templates
from benchmarks.studies.prompts.tables import tables

STUDY = Study("prompts", (Templates, Long, Synthesis), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
