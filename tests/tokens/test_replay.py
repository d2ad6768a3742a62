"""Responses that are kept and replayed: what lists in Python would hold, what is drawn of it, what an agent learns of it."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import NUM_RESPONSES, TOKEN_AGENTS_UNDER_TEST
from echo_task import SPEC, TASK, assert_equal, init

from maxent_rl.agents import check_agent
from maxent_rl.agents.base import acting_state
from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens import TokenBatch, objectives
from maxent_rl.tokens.batch import Prompted
from maxent_rl.tokens.replay import Levels, ReplayState, lower_power
from maxent_rl.tokens.whole import Whole

GROUPS, GROUP, SIZE, AGE, MEANS = 4, 4, 9, 2, 10
ROWS = GROUPS * GROUP
WISH = objectives.make(
    "grpo", replay_weight=1.0, replay_size=SIZE, replay_age=AGE, replay_means=MEANS, replay_calls=True
).sampling(jnp.zeros((), jnp.int32)[None]).replay  # fmt: skip
EMPTY = ReplayState.create(WISH, (), ROWS, 2, 3)


def drawn_batch(draw, number):
    """A prepared batch, whose tokens say which iteration and row they are of."""
    rewards = draw.integers(0, 4, (GROUPS, GROUP)) / 4 * (draw.random((GROUPS, 1)) < 0.8)
    advantages = rewards - rewards.mean(axis=1, keepdims=True)
    mask = np.repeat(draw.random(ROWS) < 0.9, 3).reshape(ROWS, 3)
    shape = (ROWS, 3)
    tokens = np.broadcast_to(100 * number + np.arange(ROWS)[:, None], shape)
    context = Prompted(tokens[:, :2].astype(np.int32), np.ones((ROWS, 2), bool), np.ones(shape, bool))
    found = TokenBatch(
        np.full(shape, -1.0), mask, rewards.ravel(), GROUP, tokens=tokens.astype(np.int32), context=context,
        advantages=np.where(mask, advantages.ravel()[:, None], 0.0), calls=draw.integers(0, 6, ROWS),
        dropped=np.repeat(draw.random(GROUPS) < 0.25, GROUP), turns=np.zeros(shape, np.int32),
        whole=Whole.begin(jnp.ones(shape, bool)),
    )  # fmt: skip
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32 if leaf.dtype == float else None), found)


class Lists:
    """The same by Python lists, from the sheet's five steps."""

    def __init__(self):
        self.kept, self.levels, self.iteration = [], [], 0

    @property
    def median(self):
        values = [value for _, values in self.levels for value in values]
        rewards = [reward for reward, *_ in self.kept]
        return np.median(values) if values else np.mean(rewards) if rewards else 0.0

    @property
    def ready(self):
        return sum(reward > self.median for reward, *_ in self.kept) > 1.5 * SIZE

    @property
    def worthy(self):
        return {name: reward - self.median for reward, _, name in self.kept if reward > self.median}

    def after(self, batch):
        self.iteration += 1
        if self.ready:
            self.kept = []
        if self.kept:
            newest = self.kept[-1][1]
            self.kept = [each for each in self.kept if newest - each[1] <= AGE]
        while sum(len(values) for _, values in self.levels) > MEANS:
            self.levels.pop(0)
        rewards = np.asarray(batch.rewards).reshape(GROUPS, GROUP)
        there = ~np.asarray(batch.dropped).reshape(GROUPS, GROUP)[:, 0]
        self.levels.append((self.iteration, rewards.mean(axis=1)[there].tolist()))
        for row in range(ROWS):
            wins = batch.advantages[row, 0] > 0 and batch.calls[row] > 0 and not batch.dropped[row]
            if wins:
                self.kept.append((float(batch.rewards[row]), self.iteration, int(batch.tokens[row, 0])))


@jax.jit
def turn(memory, key, batch):
    drawn, there = memory.drawn(key, WISH, SIZE, batch, SIZE)
    return memory.after(WISH, SIZE, batch), drawn, there, memory.metrics(WISH, SIZE), memory.median


@pytest.mark.slow
def test_it_keeps_and_draws_what_lists_would():
    """Sixty iterations: who is kept, the median, when there is a replay, how many of whom are drawn, what they are worth."""
    draw, lists, memory, replays = np.random.default_rng(0), Lists(), EMPTY, []
    for number in range(1, 61):
        batch = jax.device_get(drawn_batch(draw, number))
        kept = np.asarray(memory.ring.filled)
        names = np.asarray(memory.ring.entries.tokens)[kept, 0].tolist()
        assert sorted(names) == sorted(name for *_, name in lists.kept)
        worthy, ready = lists.worthy, lists.ready
        memory, drawn, there, metrics, median = turn(memory, jax.random.key(number), batch)
        np.testing.assert_allclose(median, lists.median, atol=1e-6)
        assert metrics["replay/kept"] == len(names) and bool(metrics["replay/ready"]) == ready
        expected = min(2 ** int(np.log2(len(worthy))), SIZE) if ready and len(worthy) > 1 else 0
        found = np.asarray(drawn.tokens)[np.asarray(there), 0].tolist()
        assert len(found) == len(set(found)) == expected and set(found) <= worthy.keys()
        np.testing.assert_allclose(drawn.advantages[: len(found)], [worthy[name] for name in found], atol=1e-6)
        assert not np.asarray(drawn.mask)[~np.asarray(there)].any() and drawn.mask[:expected].all()
        replays.append(expected)
        lists.after(batch)
    assert set(replays) == {0, 8, 9}  # of eight to fifteen eight, of more the most; and not each time


@pytest.mark.slow
def test_every_worthy_response_is_as_likely():
    """Three of six, as a power of two is four: over 300 keys 150 times each, with deviation 8.7; never one of the others."""
    rewards = jnp.array([1, 1, 1, 1, 1, 1, 0, 0], jnp.float32)
    memory = ReplayState.create(dataclasses.replace(WISH, age=0), (), 4, 2, 3)
    entries = dataclasses.replace(memory.ring.entries, rewards=rewards, mask=jnp.ones((8, 3), bool))
    entries = dataclasses.replace(entries, tokens=jnp.broadcast_to(jnp.arange(8)[:, None], (8, 3)))
    ring = dataclasses.replace(memory.ring, entries=entries, filled=jnp.ones(8, bool))
    levels = Levels.create(4).noted(jnp.full(1, 0.5), jnp.zeros(1), jnp.ones(1, bool), jnp.int32(1), 4)
    memory = dataclasses.replace(memory, ring=ring, levels=levels)
    like = drawn_batch(np.random.default_rng(0), 1)

    @jax.jit
    @jax.vmap
    def names(key):
        batch, there = memory.drawn(key, WISH, 3, like, 6)
        return jnp.where(there, batch.tokens[:, 0], -1), memory.drawn(key, WISH, 4, like, 6)[1]

    found, too_few = names(jax.random.split(jax.random.key(0), 300))
    assert not np.asarray(too_few).any()  # six are no more than 1.5 times four
    counts = np.bincount(np.asarray(found).ravel() + 1, minlength=9)
    assert counts[0] == 300 * 3 and counts[7:].sum() == 0
    assert all(105 < count < 195 for count in counts[1:7])


def test_powers_of_two_from_below():
    numbers = np.arange(0, 70)
    expected = [0 if n <= 1 else 2 ** int(np.log2(n)) for n in numbers]
    np.testing.assert_array_equal(jax.jit(jax.vmap(lower_power))(jnp.asarray(numbers)), expected)


# Long responses are punished: by chance alone there is no right one to be kept.
SETTINGS = ("overlong_margin=2", "replay_weight=2", "replay_size=4", "replay_rise=2", "replay_covariance_low=0")
AGENT = TOKEN_AGENTS_UNDER_TEST["grpo"].replace(
    objective_settings=SETTINGS, learning_rate=1e-3, warm_start_steps=0, num_minibatches=2, num_epochs=1
)


@jax.jit
@jax.vmap
def iterated(state, key):
    """An iteration of two seeds."""
    return AGENT.reinforce(state, TASK, key, NUM_RESPONSES)


def pair(first, second):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)


def reinforce(state, key):
    """An iteration of one of them, the other being as it."""
    return jax.tree.map(lambda leaf: leaf[0], iterated(pair(state, state), jnp.stack([key, key])))


@pytest.fixture(scope="module")
def states():
    """Of the first iterations, with what they measured."""
    found = [(init(AGENT, jax.random.key(0)), {})]
    for number in range(6):
        found.append(reinforce(found[-1][0], jax.random.key(number)))
    return found


@pytest.mark.slow
def test_an_agent_keeps_replays_and_forgets(states):
    metrics = [measured for _, measured in states[1:]]
    drawn, kept = ([int(each[name]) for each in metrics] for name in ("replay/drawn", "replay/kept"))
    assert drawn[0] == kept[0] == 0 and max(drawn) == 4 and max(kept) > 6
    for number, (_, measured) in enumerate(states[1:], start=1):
        assert np.isfinite([*measured.values()]).all()
        memory = states[number][0].replay
        assert int(memory.iteration) == number
        came = np.asarray(memory.ring.steps)[np.asarray(memory.ring.filled)]
        if measured["replay/ready"]:
            assert measured["replay/loss"] != 0 and set(came.tolist()) <= {number}  # all before it are forgotten
        else:
            assert measured["replay/drawn"] == measured["replay/loss"] == 0
    acting = acting_state(AGENT, states[-1][0])
    assert acting.replay is None and len(jax.tree.leaves(acting)) == len(jax.tree.leaves(acting.params))


def before_replay(states):
    """The state before the first iteration that replays, and its key."""
    number = next(i for i, (_, measured) in enumerate(states[1:]) if measured["replay/drawn"] > 0)
    return states[number][0], jax.random.key(number)


def changed_kept(state, **changes):
    entries = dataclasses.replace(state.replay.ring.entries, **changes)
    ring = dataclasses.replace(state.replay.ring, entries=entries)
    return dataclasses.replace(state, replay=dataclasses.replace(state.replay, ring=ring))


@pytest.mark.slow
def test_what_is_masked_in_replayed_responses_changes_nothing(states):
    """NaN in log-probabilities of what is masked, any token beyond what was said, and whatever stands in free places."""
    state, key = before_replay(states)
    kept, free = state.replay.ring.entries, ~np.asarray(state.replay.ring.filled)
    litter = changed_kept(
        state,
        logp=jnp.where(kept.mask & ~free[:, None], kept.logp, jnp.nan),
        tokens=jnp.where(kept.there & ~free[:, None], kept.tokens, 3),
        rewards=jnp.where(free, jnp.nan, kept.rewards),
        advantages=jnp.where(free, jnp.nan, kept.advantages),
    )
    (one, found), (other, expected) = (reinforce(each, key) for each in (litter, state))
    assert_equal((one.params, one.optimizer, found), (other.params, other.optimizer, expected))


@pytest.mark.slow
def test_what_is_replayed_counts(states):
    state, key = before_replay(states)
    plain, _ = reinforce(state, key)
    kept = state.replay.ring.entries
    other, _ = reinforce(changed_kept(state, rewards=kept.rewards + 1), key)
    assert any(np.any(a != b) for a, b in zip(*(jax.tree.leaves(each.params) for each in (plain, other)), strict=True))


def bits(tree):
    """With the numbers of random keys in their place."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if leaf.dtype == jax.random.key(0).dtype else leaf, tree)


@pytest.mark.slow
def test_seeds_lie_side_by_side(states):
    """Each is what it is beside its like, to the bit, whether it replays or the other one does."""
    state, key = before_replay(states)
    both = state, states[0][0]
    after, measured = iterated(pair(*both), jnp.stack([key, key]))
    assert measured["replay/drawn"].tolist() == [4, 0]
    for index, each in enumerate(both):
        assert_equal(bits(reinforce(each, key)), bits(jax.tree.map(lambda leaf, i=index: leaf[i], (after, measured))))


OWN_STEPS = AGENT.replace(
    objective="dr_grpo",
    objective_settings=(
        "replay_size=4", "replay_covariance_low=40", "replay_weight=0.5", "replay_rise=0", "replay_order=consecutive"
    ),
)  # fmt: skip


@jax.jit
def rehearsed(state):
    """Steps of three for what is replayed beside given responses.

    (state, after, for each step mask, advantages, log-ratios and loss of its part).
    """
    objective = OWN_STEPS.build_objective(3)
    own, replayed = objective.init(), objective.replayed(objective.init())
    memory = dataclasses.replace(state.replay, objective=replayed.init())
    state = dataclasses.replace(state, objective=own, replay=memory)
    context = Prompted(jnp.full((NUM_RESPONSES, 2), 2), *(jnp.ones((NUM_RESPONSES, n), bool) for n in (2, 3)))
    zeros = jnp.zeros((NUM_RESPONSES, 3))
    batch = TokenBatch(zeros, zeros == 0, zeros[:, 0], AGENT.group_size, tokens=zeros.astype(int), context=context)
    _, batch = objective.prepare(own, batch)
    state, whole, _ = OWN_STEPS._rehearse(state, objective, batch, jax.random.key(1), NUM_RESPONSES, 3)
    after, _ = OWN_STEPS._remember(state, objective, batch, whole, NUM_RESPONSES)
    model = OWN_STEPS.model(state.params)

    def part(order):
        own = whole.part(order)
        said = model.statistics(own.batch.context, own.batch.tokens).logp
        return (
            own.batch.mask,
            own.batch.advantages,
            said - own.batch.logp_old,
            own.loss(model, state.replay.objective)[0],
        )

    return state, after, jax.lax.map(part, whole.orders)


@pytest.mark.slow
def test_a_replayed_response_weighs_as_much_as_a_new_one_times_its_weight(states):
    """The sum of its tokens' losses over T = 3 and over the new responses of a step, three, whether there are three or one."""
    state, _ = before_replay(states)
    mask, advantages, log_ratio, loss = map(np.asarray, rehearsed(state)[2])
    ratio = np.exp(np.where(mask, log_ratio, 0.0))
    each = np.maximum(-advantages * ratio, -advantages * np.clip(ratio, 0.8, 1.2))
    np.testing.assert_allclose(loss, 0.5 * np.where(mask, each, 0.0).sum(axis=(1, 2)) / (3 * 3), rtol=1e-5)
    assert mask.any(axis=2).sum(axis=1).tolist() == [3, 1] and loss[0] != 0


@pytest.mark.slow
def test_replayed_responses_may_have_steps_of_their_own(states):
    """Two steps for four of them, and none where there is no replay, whatever Adam remembers."""
    for given, steps in ((before_replay(states)[0], 2), (states[1][0], 0)):
        state, after, *_ = rehearsed(given)
        assert int(after.updates) - int(state.updates) == steps
        assert int(after.optimizer[1].count - state.optimizer[1].count) == steps
        moved = [np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (after.params, state.params)), strict=True)]
        assert any(moved) == (steps > 0)
        assert int(after.replay.iteration) == int(state.replay.iteration) + 1


REFUSED = {
    "too many": (
        {"replay_size": "75"},
        {},
        "echo",
        "wants more than 112.5 responses to be kept, and the last 7 iterations",
    ),
    "no tools": (
        {"replay_calls": "true"},
        {},
        "tokens/countdown",
        "tokens/countdown has no tools. Set replay_calls=false",
    ),
    "a critic": ({}, {"objective": "ppo_critic"}, "echo", "--objective ppo_critic learns with a critic, and replayed"),
    "prompts": (
        {},
        {"prompts": "templates"},
        "echo",
        "--prompts templates poses other prompts than the task",
    ),
    "a teacher": ({}, {"objective": "sdpo"}, "echo", "Distillation needs .* which is not kept with replayed responses"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_never_be_replayed_is_refused(case):
    settings, changes, env, words = REFUSED[case]
    texts = tuple(f"{name}={value}" for name, value in ({"replay_weight": "1"} | settings).items())
    with pytest.raises(InvalidSettingError, match=words):
        check_agent(AGENT.replace(objective_settings=texts, **changes), SPEC, env)


def test_only_objectives_that_want_it_remember():
    assert init(TOKEN_AGENTS_UNDER_TEST["grpo"], jax.random.key(0)).replay is None
