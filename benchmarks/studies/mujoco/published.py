"""What others have published for the same tasks, with their settings.

Ten seeds each on v4 of the tasks, one deterministic episode at each point, points within -10 % and +5 % of the named step
averaged for each seed; computed from the per-seed tables in the repository of SimbaV2 (`results/baseline/{sac,crossq}.csv`).
SAC: a learning rate of 1e-3 for all, 5,000 random steps, 2 x 256 units, one update for each step.
CrossQ: the same, Adam's first moment 0.5, critics of 2 x 2,048 units, a policy step in three, 50 times SAC's arithmetic.
"""

from __future__ import annotations

from benchmarks.lab.curves import Published

_STEPS = (50_000, 100_000, 300_000)
_SAC = {
    "HalfCheetah": ((4212, 525), (6156, 738), (8560, 985)),
    "Hopper": ((530, 300), (1103, 388), (2223, 817)),
    "Walker2d": ((384, 162), (690, 254), (2305, 1371)),
    "Ant": ((448, 298), (747, 528), (3589, 1066)),
    "Humanoid": ((481, 98), (632, 179), (2265, 1366)),
}
_CROSSQ = {
    "HalfCheetah": ((6387, 616), (7961, 947), (10019, 1165)),
    "Hopper": ((1985, 808), (2741, 366), (2701, 183)),
    "Walker2d": ((1128, 821), (3307, 950), (5345, 656)),
    "Ant": ((873, 424), (2807, 937), (5526, 904)),
    "Humanoid": ((949, 269), (2944, 931), (8023, 380)),
}


def _points(values: tuple[tuple[int, int], ...]) -> tuple[tuple[int, float, float], ...]:
    return tuple((step, float(mean), float(deviation)) for step, (mean, deviation) in zip(_STEPS, values, strict=True))


PUBLISHED = {
    env: (
        Published("SAC, published (rate 1e-3)", _points(_SAC[env])),
        Published("CrossQ, published (critics 2 x 2,048)", _points(_CROSSQ[env])),
    )
    for env in _SAC
}
"""By environment."""
