"""Measures one method of distillation on one environment, all seeds at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from common import BenchmarkError
from continued_run import trained_run
from multimodal_study import Measured, Seed, Unit

from maxent_rl import envs as environments
from maxent_rl.agents.imitation.adpo import ADPO, ADPOState
from maxent_rl.distributions import Gaussian
from maxent_rl.errors import MaxentRLError
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.runs.command_line import parse
from maxent_rl.runs.config import describe
from maxent_rl.runs.policy import load_policy
from maxent_rl.sources.load import load_data
from maxent_rl.training.loops.make import make_loop
from maxent_rl.training.loops.offline import OfflineLoop
from maxent_rl.types import CandidateSets

_POINTS = 8  # of the curves


def find_teachers(
    given: Mapping[str, Path], envs: Sequence[str], settings: Mapping[str, tuple[str, int]], output: Path
) -> dict[str, Path]:
    """A run of SAC for each environment: the one that is given, one trained before, or a new one.

    Raises:
      BenchmarkError: a training failed.
    """
    found = dict(given)
    for env in (env for env in envs if env not in found):
        flags, seed = settings[env]
        folder = output.absolute() / "distillation-teachers"
        found[env] = trained_run(folder, env, ["--agent", "sac", "--env", env, *flags.split(), "--seed", str(seed)])
    return found


class Students:
    """Trains students of teachers, by environment."""

    def __init__(self, teachers: Mapping[str, Path]) -> None:
        self._teachers, self._returns = teachers, dict[str, float]()

    @property
    def steps(self) -> dict[str, int]:
        """Environment steps behind each teacher."""
        return {env: load_policy(path).step for env, path in self._teachers.items()}

    def __call__(self, unit: Unit) -> Measured:
        """Measures a unit: for each seed the return, NDCG, divergences, and the curve of the divergence.

        Raises:
          BenchmarkError: the teacher or the settings do not work.
        """
        teacher = self._teachers[unit.env]
        command = parse([*unit.flags, "--teacher", str(teacher)])
        run = dataclasses.replace(command.run, env=environments.canonical_name(command.run.env))
        try:
            if unit.env not in self._returns:
                self._returns[unit.env] = evaluate_policy(load_policy(teacher)).mean
            loop = make_loop(run, command.hyper, run.env, jax.local_devices(), load=load_data)
            assert isinstance(loop, OfflineLoop)
            curves: list[list[tuple[int, float]]] = [[] for _ in loop.seeds]
            for point in range(1, _POINTS + 1):
                loop.advance(run.total_steps * point // _POINTS, lambda: False)
                loop.check()
                for curve, found in zip(curves, loop.examine(), strict=True):
                    curve.append((loop.step, found["kl"]))
            outcomes = loop.evaluate(int(unit.measured["episodes"]))
        except MaxentRLError as error:
            raise BenchmarkError(str(error)) from error
        divergences = fixed_point_divergences(loop, command.hyper)
        seeds = []
        for index, outcome in enumerate(outcomes):
            values = {"return": outcome.mean, **outcome.extra, "teacher_return": self._returns[unit.env]}
            values |= {name: float(column[index]) for name, column in divergences.items()}
            seeds.append(Seed(loop.seeds[index], values, {"curve": curves[index]}))
        return Measured(seeds, describe(run, command.hyper)["versions"])


def fixed_point_divergences(loop: OfflineLoop, agent: ADPO) -> dict[str, np.ndarray]:
    """How far students are from where a fixed anchor with the teacher's own distribution for a target must lead them.

    That is `anchor * teacher**(anchoring temperature / teacher temperature)`, normalised; of Gaussians, a Gaussian.

    Args:
      loop: with its students.
      agent: its settings.

    Returns:
      [seed] mean KL in nats on the states kept apart: from the fixed point to the student, and from the teacher to the fixed
      point; nothing for other methods.
    """
    if agent.method != "adpo" or agent.anchor != "fixed" or agent.target != "teacher":
        return {}
    held_out: CandidateSets = loop.held_out
    teacher = Gaussian(*jnp.split(held_out.teacher, 2, axis=-1))
    power = agent.anchoring_temperature / agent.teacher_temperature

    @jax.vmap
    def one(state: ADPOState) -> tuple[jax.Array, jax.Array]:
        assert state.anchor is not None
        anchor, student = (
            agent.unsquashed(state, parameters, held_out.observation)
            for parameters in (state.anchor.params, state.policy)
        )
        precisions = jnp.exp(-2.0 * anchor.log_std), power * jnp.exp(-2.0 * teacher.log_std)
        precision = sum(precisions)
        mean = (precisions[0] * anchor.mean + precisions[1] * teacher.mean) / precision
        point = Gaussian(mean, -0.5 * jnp.log(precision))
        return jnp.mean(point.divergence(student)), jnp.mean(teacher.divergence(point))

    to_point, from_teacher = one(loop.learner.seeds.agent)
    return {"kl_fixed_point": np.asarray(to_point), "kl_of_fixed_point": np.asarray(from_teacher)}
