"""Do the diagnostics predict the error of values learned off-policy?.

Random processes of 20 states and 2 actions, linear values of 5 features that hold Q^pi exactly, data of a policy somewhere
between the target policy and another one. Of each process the exact mis-alignment (beta) and concentrability (C) are known;
LSTD learns from 100 data sets of 500 transitions, and its error is set beside `predicted_error`. As beta of processes drawn at
random is seldom near 0 or 1, as many processes are kept of each range of beta, where so many are found; nothing is looked at
but beta.

    random      features are independent normal numbers
    smoothed    a part of each feature, drawn for each process, is what the process itself makes of it one step ahead

Rank correlations (Spearman) over the processes, of the root mean square error with what is predicted, with C alone and with
the amplification 1 / (1 - beta^2) alone: of the start value, and of all values under the target policy's occupancy.
"""

from benchmarks.lab.measure import command_line
from benchmarks.lab.study import Study, no_figures
from benchmarks.studies.realizability.measure import measure
from benchmarks.studies.realizability.setting import Realizability
from benchmarks.studies.realizability.tables import tables

STUDY = Study("realizability", (Realizability,), measure, tables, no_figures, __doc__)

if __name__ == "__main__":
    command_line(STUDY.main)
