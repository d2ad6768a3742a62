"""Which preference losses bear noise: DPO and its kin, ADPO, PPO and TRPO on a bandit with twelve kinds of bad data.

12 scenarios, 10 seeds, 15 methods, three sizes of network. All methods, seeds and scenarios of a size learn in one program.
Source: ADPO (arXiv 2510.18913), the bandits.
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study
from benchmarks.studies.preference_noise.figure import figures
from benchmarks.studies.preference_noise.measure import measure
from benchmarks.studies.preference_noise.setting import PreferenceNoise
from benchmarks.studies.preference_noise.tables import tables

STUDY = Study("preference_noise", (PreferenceNoise,), measure, tables, figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
