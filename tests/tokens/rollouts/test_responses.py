"""Responses of an iteration: a model alone draws them, and groups that teach take the place of those that do not."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from echo_task import TASK, assert_equal, rows
from flax import struct

from maxent_rl.networks.transformer import TransformerConfig
from maxent_rl.tokens import LanguageModel, objectives
from maxent_rl.tokens.objectives import Sampling, Stage, chain
from maxent_rl.tokens.rollouts import Groups, examine, gather
from maxent_rl.tokens.rollouts.responses import _fill

CONFIG = TransformerConfig(
    vocabulary_size=5,
    hidden_size=16,
    num_layers=1,
    num_heads=2,
    num_key_value_heads=1,
    head_size=8,
    intermediate_size=16,
)
MODEL, REFERENCE = (LanguageModel.create(CONFIG, jax.random.key(seed)) for seed in (0, 1))


@jax.jit
def drawn(model, reference, key):
    return gather(model, TASK, key, 8, Groups(4, 3), objectives.make("grpo"), (), reference)[1:]


@pytest.mark.slow
def test_a_model_needs_no_agent_to_be_asked():
    batch, metrics = drawn(MODEL, None, jax.random.key(0))
    assert batch.mask.shape == (8, 3) and batch.group_size == 4 and batch.logp_ref is None
    np.testing.assert_array_equal(batch.rewards, TASK.reward(batch.context.prompts, batch.tokens, batch.mask))
    assert metrics["episode/return"] == batch.rewards.mean() and metrics["rollout/rounds"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("reference", [MODEL, REFERENCE], ids=["itself", "another"])
def test_a_reference_says_how_likely_it_finds_them(reference):
    batch, _ = drawn(MODEL, reference, jax.random.key(0))
    mask = np.asarray(batch.mask)
    same = np.isclose(batch.logp_ref[mask], batch.logp_old[mask], atol=1e-5)
    assert same.all() if reference is MODEL else not same.any()


@pytest.mark.slow
def test_examining_poses_held_out_prompts():
    found = jax.jit(lambda model: examine(model, TASK, jax.random.key(0), 6, 3, 2))(MODEL)
    assert found["reward"].shape == found["length"].shape == (6,) and found["sampled_reward"].shape == (6, 2)
    assert jnp.all((found["length"] >= 1) & (found["length"] <= 3)) and 0 < found["entropy"] < np.log(5)


@pytest.mark.slow
def test_informative_groups_take_the_place_of_uniform_ones_in_order():
    held = rows((1, (0, 0)), (2, (0, 1)), (3, (1, 1)), (4, (0, 0)))
    fresh = rows((5, (1, 1)), (6, (1, 0)), (7, (0, 0)), (8, (0, 1)))
    filled = _fill(held, fresh, 2)
    expected = rows((6, (1, 0)), (2, (0, 1)), (8, (0, 1)), (4, (0, 0)))
    assert_equal(filled, expected)
    assert_equal(_fill(expected, rows(*((9, (1, 1)),) * 4), 2), expected)
    assert_equal(_fill(filled, rows(*((9, (1, 0)),) * 4), 2), rows((6, (1, 0)), (2, (0, 1)), (8, (0, 1)), (9, (1, 0))))


@struct.dataclass
class AsksForAll(Stage):
    """Reads every column that only some objectives read, and draws unsure tokens hotter."""

    slot: ClassVar[str] = "reward"
    needs: ClassVar[tuple[str, ...]] = ("problem", "task", "answers", "difficulty", "logp_prompt", "logp_drawn")

    def sampling(self, state):
        return Sampling(temperature=lambda entropy: 1.0 + entropy, teaches=lambda batch: batch.answers >= 0)


@pytest.mark.slow
def test_an_objective_is_given_the_columns_that_it_reads():
    objective = chain(AsksForAll(), *objectives.make("grpo").stages)
    batch, _ = jax.jit(
        lambda model, key: gather(model, TASK, key, 8, Groups(4, 3, rounds=2), objective, objective.init())[1:]
    )(MODEL, jax.random.key(0))
    prompts, prompt_mask = batch.context.prompts, np.asarray(batch.context.prompt_mask)
    np.testing.assert_array_equal(batch.answers, TASK.parsed(prompts, batch.tokens, batch.mask))
    np.testing.assert_array_equal(batch.problem, TASK.problems(prompts))
    assert np.all(batch.task == 0) and np.all(batch.difficulty == 0)
    np.testing.assert_array_equal(np.isfinite(batch.logp_prompt), prompt_mask & (np.cumsum(prompt_mask, axis=1) > 1))
    known = np.isfinite(batch.logp_prompt)
    assert np.all(batch.logp_prompt[known] < 0)
    differ = np.abs(batch.logp_drawn - batch.logp_old)
    assert np.all(differ[~np.asarray(batch.mask)] == 0) and np.any(differ > 0.01)
