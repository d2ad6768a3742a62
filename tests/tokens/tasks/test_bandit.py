"""A bandit told in text: replies against a reference in Python, payments as they are described, and three kinds of players."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens.tasks import END_TOKEN, Bandit, make_task

TASK = Bandit()
ROWS = 256
PROMPTS = np.asarray(TASK.prompts(jax.random.key(0), ROWS)[0])


@jax.jit
@jax.vmap
def hidden(prompt):
    """Means [arms], and what each arm pays at each pull [arms, pulls]."""
    problem = TASK.read(prompt)
    arms, pulls = jnp.meshgrid(jnp.arange(TASK.arms), jnp.arange(TASK.pulls), indexing="ij")
    paid = jax.vmap(jax.vmap(lambda arm, pull: TASK.payment(problem, arm, pull)))(arms, pulls)
    return TASK.means(problem), paid


@jax.jit
@jax.vmap
def play(prompt, lines, lengths):
    """What is told, earned and ended by lines [K, S]."""

    def turn(state, given):
        heard = TASK.reply(state, *given)
        return heard.state, (heard.tokens[0], heard.reward, heard.ended)

    return jax.lax.scan(turn, TASK.begin(TASK.read(prompt), jax.random.key(0)), (lines, lengths))[1]


def test_every_reply_is_that_of_the_reference():
    """Pulls of arms and nonsense, one after the other."""
    a, b, dot = TASK.encode("ab.")
    kinds = [((a, END_TOKEN), 2), ((b, END_TOKEN), 2), ((a, b), 2), ((END_TOKEN, 0), 1), ((dot, END_TOKEN), 2)]
    which = np.random.default_rng(0).choice(5, (ROWS, TASK.pulls), p=[0.3, 0.3, 0.15, 0.1, 0.15])
    lines = np.array([line for line, _ in kinds], np.int32)[which]
    lengths = np.array([length for _, length in kinds])[which]
    told, rewards, ended = jax.device_get(play(PROMPTS, lines, lengths))
    _, paid = jax.device_get(hidden(PROMPTS))
    for row in range(ROWS):
        pulls = [0, 0]
        for turn, kind in enumerate(which[row]):
            says, earns = dot, 0.0
            if kind < 2:
                digit = paid[row, kind, pulls[kind]]
                says, earns = TASK.encode(str(digit))[0], digit / 9 / TASK.pulls
                pulls[kind] += 1
            assert told[row, turn] == says and abs(rewards[row, turn] - earns) < 1e-6
    np.testing.assert_array_equal(ended, np.broadcast_to(np.arange(TASK.pulls) == TASK.pulls - 1, ended.shape))


def test_arms_pay_what_their_means_say():
    """Noise of two digits, cut off and rounded; means uniform from 0 to 9, within five deviations."""
    means, paid = jax.device_get(hidden(PROMPTS))
    assert abs(means.mean() - 4.5) < 5 * 9 / np.sqrt(12 * means.size)
    assert means.min() < 0.5 and means.max() > 8.5 and abs(np.corrcoef(means.T)[0, 1]) < 5 / np.sqrt(ROWS)
    inner = (means > 4) & (means < 5)  # where little is cut off
    noise = paid[inner] - means[inner][:, None]
    assert abs(noise.mean()) < 5 * 2.1 / np.sqrt(noise.size)
    assert abs(noise.std() - np.sqrt(2.0**2 + 1 / 12)) < 5 * 2.1 / np.sqrt(2 * noise.size)
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 5 / np.sqrt(noise.size)
    assert paid.min() == 0 and paid.max() == 9
    gap = np.abs(means[:, 0] - means[:, 1])
    np.testing.assert_allclose(TASK.difficulties(PROMPTS), 1 - gap / 9, atol=1e-5)


def player(task):
    """Demonstrations: which arm was pulled when [N, pulls], and what conversations earned."""
    spoken = jax.device_get(task.transcripts(jax.random.key(1), PROMPTS))
    assert spoken.ended.all() and spoken.there.all()
    arms = spoken.tokens[:, :: task.turn_length + task.reply_length] - int(task.encode("a")[0])
    return arms, spoken.turn_rewards.sum(axis=1)


@pytest.mark.slow
def test_players_pull_as_they_are_said_to():
    means, paid = jax.device_get(hidden(PROMPTS))
    best = means.argmax(axis=1)
    found = {
        name: player(Bandit(random=random, greedy=greedy))
        for name, random, greedy in (("random", 1.0, 0.0), ("greedy", 0.0, 1.0), ("bounds", 0.0, 0.0))
    }
    arms, _ = found["random"]
    assert abs(arms.mean() - 0.5) < 5 * 0.5 / np.sqrt(arms.size)
    arms, _ = found["greedy"]
    for row in range(ROWS):  # both arms once, and then the one that has paid more on average
        assert sorted(arms[row, :2]) == [0, 1]
        for turn in range(2, TASK.pulls):
            counts = [int(np.sum(arms[row, :turn] == arm)) for arm in (0, 1)]
            average = [paid[row, arm, : counts[arm]].mean() for arm in (0, 1)]
            assert average[0] == average[1] or arms[row, turn] == int(average[1] > average[0])
    # How often the last pulls are of the best arm.
    share = {name: np.mean(arms[:, -3:] == best[:, None]) for name, (arms, _) in found.items()}
    assert share["random"] < 0.6 < 0.7 < min(share["greedy"], share["bounds"])
    earned = {name: returns.mean() for name, (_, returns) in found.items()}
    assert earned["random"] < min(earned["greedy"], earned["bounds"])
    lines = np.asarray(jax.jit(jax.vmap(lambda prompt: TASK.lines(None, TASK.read(prompt))[0]))(PROMPTS))
    assert np.all(lines[:, :, 0] - int(TASK.encode("a")[0]) == best[:, None])
    rewards = np.asarray(play(PROMPTS, lines, np.full((ROWS, TASK.pulls), 2))[1])
    np.testing.assert_allclose(rewards, paid[np.arange(ROWS), best] / 9 / TASK.pulls, atol=1e-6)
    assert rewards.sum(axis=1).mean() > max(earned.values())


def test_prompts_are_read_as_they_were_written_and_sizes_have_bounds():
    again = jax.jit(jax.vmap(lambda prompt: TASK.write(TASK.read(prompt))))(PROMPTS)
    np.testing.assert_array_equal(again, PROMPTS)
    assert TASK.decode(PROMPTS[0])[-1] == ":" and TASK.prompt_length == 5
    with pytest.raises(InvalidSettingError, match="--arms must be at least 2 and at most 20, got 1"):
        make_task("bandit", arms=1)
