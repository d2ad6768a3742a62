"""The leaderboard: who competes, that its trainer is the library's, how places follow from scores, and its table by seed."""

from __future__ import annotations

import csv
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.lab.measure import BenchmarkError
from benchmarks.studies.objectives import learning, setting
from benchmarks.studies.objectives.figure import write_table
from benchmarks.studies.objectives.learning import Lanes, Widths, learn, widest
from benchmarks.studies.objectives.scores import board, scores, tasks, whole_tasks
from benchmarks.studies.objectives.setting import BUDGETS, START, VARIANTS, Defaults, Tuned, competitors, made, split
from benchmarks.studies.objectives.tables import tables
from maxent_rl.envs.adapters.tokens import TokenEnv
from maxent_rl.tokens import objectives
from maxent_rl.tokens.agent import TokenAgent
from maxent_rl.tokens.rollouts import Groups, gather

FIRST, SECOND, ADDITION = BUDGETS


def result_of(**scores):
    """A result of grpo and others on two tasks: each pass@1 of a seed, or an error."""
    runs = []
    for name, by_task in scores.items():
        for task, values in zip((FIRST, SECOND), by_task, strict=False):
            shared = {"env": task, "contender": START if name == "start" else name, "machine": "a CPU"}
            if isinstance(values, str):
                runs.append(shared | {"repeat": 0, "error": values})
                continue
            for seed, value in enumerate(values):
                own = dict.fromkeys(("reward", "greedy", "pass@8", "entropy", "distinct", "length"), 0.5)
                own |= {"pass@1": value, "learning_rate": 1e-3, "seconds": 2.0}
                runs.append(shared | {"repeat": seed, "values": own})
    return {"runs": runs, "complete": False}


RESULT = result_of(
    grpo=([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]),
    maxrl=([0.5, 0.61, 0.7], [0.3, 0.41, 0.5]),
    rloo=([0.3, 0.4, 0.5], [0.1, 0.2, 0.3]),
    gspo=([0.5, 0.53, 0.5], [0.3, 0.33, 0.3]),
    ppo=("no such column", "no such column"),
    start=([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]),
)


def test_every_named_objective_competes_on_every_task_with_one_budget():
    for plan, beside in ((Defaults(), (START,)), (Tuned(), ())):
        units = plan.units()
        there = {(unit.env, unit.contender) for unit in units}
        assert there == {(task, name) for task in BUDGETS for name in (*beside, *objectives.names(), *VARIANTS)}
        shared = {
            (unit.env, *(unit.measured[name] for name in ("budget", "agent", "rates", "seeds"))) for unit in units
        }
        assert len(shared) == len(BUDGETS)
    with pytest.raises(BenchmarkError, match="Unknown contender 'grpoo'"):
        Tuned(contenders=("grpoo",)).units()


def test_variants_are_settings_of_objectives():
    for name in VARIANTS:
        objective, settings = split(competitors()[name])
        agent = TokenAgent(objective=objective, objective_settings=settings, **setting.AGENT)
        assert settings and agent.build_objective(6, 17).stages


def test_places_follow_from_differences_seed_by_seed():
    places = {place.name: place for place in board(RESULT)}
    assert list(places) == ["maxrl", "gspo", "grpo", "rloo", START]  # ppo could not
    assert places["maxrl"].verdict == "better" and places["rloo"].verdict == "worse" and not places["gspo"].verdict
    np.testing.assert_allclose(float(places["rloo"].difference.estimate), -0.1, atol=1e-9)
    # of nine pairs two tie and one is won
    np.testing.assert_allclose(float(places["rloo"].chance.estimate), (2 * 0.5 + 1) / 9, atol=1e-9)
    assert not places["grpo"].verdict and float(places["grpo"].chance.estimate) == 0.5


def test_a_task_that_is_not_done_is_left_out_of_the_board():
    part = result_of(grpo=([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]), dapo=([0.5, 0.6, 0.7],))
    assert tasks(part) == [FIRST, SECOND] and whole_tasks(part) == [FIRST]
    assert [place.name for place in board(part)] == ["dapo", "grpo"]


def test_tables_say_who_did_not_run_and_what_is_missing():
    text = tables({"defaults": RESULT})
    assert "| 1 | **`maxrl`** |" in text and "`ppo` did not run on countdown: no such column" in text
    assert "Not measured on addition modulo 30 so far: anyone" in text
    assert tasks(RESULT) == [FIRST, SECOND] and scores(RESULT, "pass@1")[START][FIRST] == [0.1, 0.1, 0.1]


def test_the_table_by_seed_holds_every_number(tmp_path):
    write_table({"defaults": RESULT}, tmp_path / "all.csv")
    rows = list(csv.DictReader((tmp_path / "all.csv").open()))
    assert len(rows) == 5 * 2 * 3 and {row["part"] for row in rows} == {"defaults"}
    (row,) = (each for each in rows if (each["objective"], each["task"], each["seed"]) == ("maxrl", FIRST, "1"))
    assert float(row["pass@1"]) == 0.61 and float(row["seconds"]) == 2.0


@pytest.mark.slow
def test_filling_up_adds_masked_columns():
    task = made(ADDITION)
    model = TokenAgent(**setting.AGENT).model(_params(task))
    _, batch, _ = gather(model, task, jax.random.key(0), 8, Groups(4, task.response_length), learning._SHARED, ())
    widths = Widths(task.prompt_length + 2, task.response_length + 3)
    wide = learning._widened(batch, widths)
    assert widest([made(name) for name in BUDGETS]) == (12, 18)
    assert wide.mask.shape == (8, widths.response) and not np.any(wide.mask[:, task.response_length :])
    np.testing.assert_array_equal(wide.tokens[:, : task.response_length], batch.tokens)
    np.testing.assert_array_equal(wide.context.prompts[:, 2:], batch.context.prompts)
    assert wide.rewards is batch.rewards and not np.any(wide.context.prompt_mask[:, :2])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["grpo", "sdpo", *(pytest.param(name, marks=pytest.mark.matrix) for name in ("progrpo", "aepo_arbitrary"))]
)
def test_the_trainer_is_that_of_the_library(name):
    task, count, iterations = made(ADDITION), 32, 3
    agent = TokenAgent(objective=name, **setting.AGENT | {"hidden_size": 16, "learning_rate": 1e-3})
    spec = dataclasses.replace(TokenEnv(task).spec, num_envs=count)
    key = jax.random.key(1)
    keys = jax.random.split(key, iterations + 1)
    state = agent.init(keys[0], spec)
    state = dataclasses.replace(state, objective=agent.build_objective(3, 14).init(keys[0]))
    lanes = Lanes(jax.tree.map(lambda leaf: leaf[None], state.params), jnp.array([1e-3]), key[None])
    found = learn(agent, task, lanes, count, iterations, Widths(12, 18))
    step = jax.jit(lambda state, key: agent.reinforce(state, task, key, count))
    for index in range(iterations):
        state, metrics = step(state, keys[index + 1])
        np.testing.assert_allclose(found.course["episode/return"][0, index], metrics["episode/return"], atol=1e-6)
    for mine, theirs in zip(jax.tree.leaves(found.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(mine[0], theirs, atol=2e-4)


def _params(task):
    spec = dataclasses.replace(TokenEnv(task).spec, num_envs=8)
    return TokenAgent(**setting.AGENT).init(jax.random.key(0), spec).params
