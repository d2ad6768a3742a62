"""Distillation: what the student is led to by each anchor and target, the teachers it takes, and what is refused."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from batches import init, update
from environments import DiscretePoint, Point
from support.closeness import assert_close, rounding
from support.seeds import learning_seed
from teachers import TEACHER, make_teacher

from maxent_rl import train
from maxent_rl.agents import PPO, SAC, check_agent
from maxent_rl.agents.imitation.adpo import ADPO, candidate_log_prob
from maxent_rl.agents.soft.pmoe import PMOE
from maxent_rl.agents.soft.sac_discrete import SACDiscrete
from maxent_rl.distributions import Categorical, Gaussian, GaussianMixture
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, PolicyError
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.runs.config import RunConfig
from maxent_rl.runs.policy import load_policy
from maxent_rl.sources.candidates import draw_candidates
from maxent_rl.sources.load import load_data
from maxent_rl.training.loops.make import make_loop
from maxent_rl.types import CandidateSets, Spec

SPEC = Spec((1,), (1,), 10)
SMALL = ADPO(hidden_sizes=(8,), batch_size=16, num_states=60, held_out_states=20, num_candidates=4)
NOT_ITSELF = Gaussian(jnp.array([1.0]), jnp.log(jnp.array([0.5])))


@partial(jax.jit, static_argnames=("count", "size"))
def one_state(teacher=NOT_ITSELF, count=64, size=1):
    """Candidates of a single state, over a range where teacher and student have their mass."""
    candidates = jnp.broadcast_to(jnp.linspace(-3.0, 4.0, count)[:, None], (size, count, 1))
    return CandidateSets(
        observation=jnp.ones((size, 1)),
        candidates=candidates,
        teacher_log_prob=candidate_log_prob(jax.tree.map(lambda leaf: leaf[None], teacher), candidates),
        drawn=jnp.ones((size, count)),
        teacher=jnp.broadcast_to(jnp.concatenate([teacher.mean, teacher.log_std]), (size, 2)),
    )


def learn(agent, batch, updates, key=0):
    """The state after that many updates on one batch, and what it was before them."""
    first = init(agent, jax.random.key(key), SPEC)
    return repeated(agent, first, batch, updates), first


@jax.jit
def repeated(agent, state, batch, updates):
    return jax.lax.fori_loop(0, updates, lambda _, state: agent.update(state, batch, jax.random.key(0))[0], state)


@jax.jit
def itself(agent, state):
    """The student's distribution in the only state."""
    return jax.tree.map(lambda leaf: leaf[0], agent.unsquashed(state, state.policy, jnp.ones((1, 1))))


examine = jax.jit(lambda agent, state, batch: agent.examine(state, batch))


def student(agent, state):
    found = itself(agent, state)
    return float(found.mean[0]), float(np.exp(found.log_std[0]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("anchor", "rule"),
    [*((anchor, "fixed") for anchor in ("uniform", "fixed", "copy", "ema", "kl")), ("fixed", "falling")],
)
def test_with_the_target_over_the_anchor_every_anchor_leads_to_the_teacher(anchor, rule):
    agent = SMALL.replace(anchor=anchor, anchoring_temperature=2.0, anchor_every=100, learning_rate=3e-3)
    agent = agent.replace(temperature_rule=rule)
    state, _ = learn(agent, one_state(), 2_000, learning_seed())
    assert student(agent, state) == pytest.approx((1.0, 0.5), abs=0.02)
    assert float(examine(agent, state, one_state())["kl"]) < 0.005


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_with_the_teacher_alone_a_fixed_anchor_leads_to_their_product(temperature):
    """`anchor * teacher**(tau / T)`, and not to the teacher."""
    agent = SMALL.replace(target="teacher", anchoring_temperature=temperature, learning_rate=3e-3)
    state, first = learn(agent, one_state(), 2_000, learning_seed())
    mean, std = student(agent, first)
    own, taught = std**-2, temperature * 0.5**-2
    expected = (own * mean + taught * 1.0) / (own + taught), (own + taught) ** -0.5
    assert student(agent, state) == pytest.approx(expected, abs=0.02)
    assert float(examine(agent, state, one_state())["kl"]) > 0.005  # 0.013 to 0.4 in 20 seeds, as their anchors are


@pytest.mark.slow
def test_with_the_teacher_alone_a_moving_anchor_never_settles():
    agent = SMALL.replace(target="teacher", anchor="ema", anchoring_temperature=1.0, learning_rate=3e-3)
    spreads = [
        student(agent, learn(agent, one_state(), updates, learning_seed())[0])[1] for updates in (400, 800, 1_600)
    ]
    assert spreads[0] < 0.5 and all(after < 0.85 * before for before, after in itertools.pairwise(spreads))


@pytest.mark.slow
def test_distillation_is_a_uniform_anchor_with_the_temperature_of_the_teacher():
    batch = one_state()
    kd = SMALL.replace(method="kd", teacher_temperature=2.0)
    same = SMALL.replace(anchor="uniform", target="teacher", teacher_temperature=2.0, anchoring_temperature=2.0)
    # Two programs. Adam divides each entry by its own size, so that what is small in a gradient keeps fewer digits.
    assert_close(*(learn(agent, batch, 20)[0].policy for agent in (kd, same)), rtol=1e-4)


def test_cloning_fits_the_actions_that_the_teacher_drew():
    batch = one_state(count=4)
    batch = batch.replace(drawn=jnp.array([[0.0, 1.0, 1.0, 0.0]]))
    agent = SMALL.replace(method="bc", learning_rate=3e-3)
    taken = np.asarray(batch.candidates)[0, 1:3, 0]
    assert student(agent, learn(agent, batch, 1_500)[0]) == pytest.approx((taken.mean(), taken.std()), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "pairs"},
        {"loss": "hard-pairs"},
        {"loss": "ranking"},
        {"target_shape": "kde"},
        {"target_shape": "rank"},
        {"temperature_rule": "falling"},
        {"normalize_observations": True},
        {"network": "simba", "hidden_sizes": (8, 8)},
    ],
    ids=str,
)
def test_every_form_brings_the_student_nearer_to_the_teachers_ranking(settings):
    """On average over sixteen students, as among sixteen candidates two neighbours that change places are one step of 0.01.

    The least, of a target by kernel density: from 0.915 with deviation 0.004 to 0.954 with 0.004.
    """
    agent = SMALL.replace(learning_rate=3e-3, **settings)
    batch = one_state(Gaussian(jnp.array([2.5]), NOT_ITSELF.log_std), count=16)
    check_agent(agent, SPEC, "test")
    states = jax.vmap(lambda key: learn(agent, batch, 300, key))(learning_seed() + jnp.arange(16))
    after, before = (np.mean(jax.vmap(lambda state: examine(agent, state, batch)["ndcg"])(each)) for each in states)
    assert before < 0.935 < after


@pytest.mark.slow
def test_standardized_log_ratios_say_nothing_of_how_far_to_go():
    """Any student on the way from its anchor to the teacher ranks as the teacher does, in the same proportions."""
    agent, batch = SMALL.replace(standardize=True, learning_rate=3e-3), one_state(count=16)
    state, first = learn(agent, batch, 300, learning_seed())
    after, before = (update(agent, each, batch, jax.random.key(0))[1]["target/divergence"] for each in (state, first))
    assert after < 1e-3 < before


@pytest.mark.slow
def test_tied_scores_leave_a_student_that_is_its_anchor_where_it_is():
    tied = one_state().replace(teacher_log_prob=jnp.zeros((1, 64)))
    for loss in ("listwise", "pairs", "hard-pairs"):
        agent = SMALL.replace(target="teacher", loss=loss)
        state, first = learn(agent, tied, 1)
        pairs = zip(*map(jax.tree.leaves, (state.policy, first.policy)), strict=True)
        # Adam divides rounding by rounding: one step is its bound, whatever the gradient.
        assert max(np.max(np.abs(np.subtract(a, b))) for a, b in pairs) < 2e-3
        _, metrics = update(agent, first, tied, jax.random.key(0))
        assert float(metrics["target/divergence"]) == pytest.approx(0.0, abs=1e-5) and np.isfinite(metrics["loss"])


def test_a_student_that_is_its_teacher_has_no_divergence_and_the_best_ranking():
    state = init(SMALL, jax.random.key(3), SPEC)
    found = examine(SMALL, state, one_state(itself(SMALL, state)))
    assert found["kl"] == pytest.approx(0.0, abs=1e-6)
    assert found["ndcg"] == pytest.approx(1.0, rel=rounding(64))  # a sum over the candidates, in two orders


def loop_of(folder, agent=SMALL, env=None, teacher=TEACHER, **settings):
    env = env or Point()
    path = make_teacher(folder, teacher, env)
    return make_loop(
        RunConfig(agent="adpo", env="Point", seed=1, teacher=path, **settings),
        agent,
        env,
        jax.local_devices(),
        load=load_data,
    )


def teacher_of(folder, agent, env=None):
    return load_policy(make_teacher(folder, agent, env or Point()))


@pytest.mark.slow
@pytest.mark.parametrize("proposal", ["broad", "uniform"])
def test_candidates_are_half_the_teachers_own_and_scored_by_it(tmp_path, proposal):
    teacher = teacher_of(tmp_path, TEACHER)
    observation = np.zeros((4_000, 2), np.float32)
    agent = SMALL.replace(proposal=proposal, num_candidates=5)
    sets = draw_candidates(teacher, agent, observation, jax.random.key(0))
    policy = jax.device_get(jax.jit(teacher.agent.distribution)(teacher.state, jnp.zeros((1, 2))))
    sets = jax.device_get(sets)
    np.testing.assert_array_equal(sets.drawn[0], [1, 1, 1, 0, 0])
    own, other = sets.candidates[:, :3], sets.candidates[:, 3:]
    std = np.exp(policy.log_std[0])
    np.testing.assert_allclose(own.mean((0, 1)), policy.mean[0], atol=4 * std.max() / 110)
    np.testing.assert_allclose(own.std((0, 1)), std, rtol=0.05)
    if proposal == "broad":
        np.testing.assert_allclose(other.std((0, 1)), 2 * std, rtol=0.05)
    else:
        np.testing.assert_allclose(np.tanh(other).std((0, 1)), 1 / np.sqrt(3), rtol=0.05)
    expected = scipy.stats.norm.logpdf(sets.candidates, policy.mean[0], std).sum(-1)
    np.testing.assert_allclose(sets.teacher_log_prob, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_teacher_with_several_modes_scores_by_the_whole_mixture(tmp_path):
    teacher = teacher_of(tmp_path, PMOE(hidden_sizes=(8,), num_experts=3))
    sets = draw_candidates(teacher, SMALL, np.zeros((10, 2), np.float32), jax.random.key(0))
    mixture = jax.jit(lambda state: teacher.agent.distribution(state, jnp.zeros(2)).pre_tanh)(teacher.state)
    assert isinstance(mixture, GaussianMixture)
    log_prob, moments = jax.jit(lambda mixture, actions: (mixture.log_prob(actions), mixture.moments()))(
        mixture, sets.candidates
    )
    np.testing.assert_allclose(sets.teacher_log_prob, log_prob, rtol=1e-4, atol=1e-5)
    # Deviations are about 1, so that their logarithms are about 0 and as uncertain as those.
    assert_close(sets.teacher[0], np.concatenate([moments.mean, moments.log_std]), scale=1.0)


@pytest.mark.slow
def test_a_teacher_of_discrete_actions_is_met(tmp_path):
    agent = SMALL.replace(learning_rate=1e-2, num_states=200)
    loop = loop_of(tmp_path, agent, DiscretePoint(), SACDiscrete(hidden_sizes=(8,)))
    sets = loop.held_out
    assert sets.candidates.shape == (20, 4) and np.asarray(sets.drawn).sum(-1).tolist() == [1.0] * 20
    np.testing.assert_allclose(np.exp(sets.teacher_log_prob).sum(-1), 1.0, rtol=1e-5)
    before = loop.examine()[0]["kl"]
    loop.advance(500, lambda: False)
    assert loop.examine()[0]["kl"] < min(1e-3, 0.1 * before)
    state = jax.tree.map(lambda leaf: np.asarray(leaf)[0], loop.learner.seeds.agent)
    assert isinstance(agent.distribution(state, jnp.zeros(2)), Categorical)


@pytest.mark.slow
def test_a_teacher_that_is_not_squashed_asks_for_such_a_student(tmp_path):
    ppo = PPO(hidden_sizes=(8,))
    with pytest.raises(InvalidSettingError, match="not squashed: pass --density gaussian"):
        loop_of(tmp_path, teacher=ppo)
    loop = loop_of(tmp_path, SMALL.replace(density="gaussian", learning_rate=1e-2), teacher=ppo)
    before = loop.examine()[0]["kl"]
    loop.advance(300, lambda: False)
    assert loop.examine()[0]["kl"] < 0.3 * before
    with pytest.raises(InvalidSettingError, match="squashed by tanh: pass --density tanh"):
        loop_of(tmp_path, SMALL.replace(density="gaussian"))


class Shapes:
    """Stands for an environment of which nothing but the shapes is asked."""

    def __init__(self, observation, action):
        self.spec = Spec((observation,), (action,), 200)


@pytest.mark.slow
def test_a_wrong_teacher_is_refused_in_one_sentence(tmp_path):
    def loop(teacher, env, **settings):
        run = RunConfig(agent="adpo", env=env, teacher=teacher, **settings)
        return make_loop(run, SMALL, env, jax.local_devices(), load=load_data)

    with pytest.raises(PolicyError, match=r"There is no policy in .*nowhere: policy.json is missing"):
        loop(str(tmp_path / "nowhere"), "Pendulum-v1")
    pendulum = make_teacher(tmp_path, env=Shapes(3, 1), env_name="Pendulum-v1")
    with pytest.raises(IncompatibleEnvironmentError, match=r"on Pendulum-v1, not on Hopper-v5: pass --env Pendulum-v1"):
        loop(pendulum, "Hopper-v5")
    with pytest.raises(IncompatibleEnvironmentError, match="trained on observations"):
        make_loop(
            RunConfig(agent="adpo", env="Point", teacher=pendulum), SMALL, Point(), jax.local_devices(), load=load_data
        )
    with pytest.raises(InvalidSettingError, match="has seeds"):
        make_loop(
            RunConfig(agent="adpo", env="Pendulum-v1", teacher=pendulum),
            SMALL.replace(teacher_seed=7),
            "Pendulum-v1",
            jax.local_devices(),
            load=load_data,
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_candidates": 1}, "--num-candidates must be at least 2: a set of one"),
        ({"num_candidates": 0}, "--num-candidates must be at least"),
        ({"num_states": 0}, "--num-states must be at least 1"),
        ({"anchoring_temperature": 0.0}, "--anchoring-temperature must be greater than 0"),
        ({"log_std_min": 3.0}, "--log-std-min must be less"),
        ({"data_seed": -1}, "--data-seed"),
        ({"anchor": "emma"}, "Did you mean 'ema'"),
        ({"network": "simba", "hidden_sizes": (8, 16)}, "equal"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, words):
    with pytest.raises(ValueError, match=r"Unknown|must|needs") as caught:
        check_agent(SMALL.replace(**settings), SPEC, "test")
    assert words in str(caught.value)


@pytest.mark.slow
def test_a_student_plays_as_well_as_its_teacher(tmp_path):
    """The point: an untrained policy loses 6 to 8 in an episode, the trained teacher less than half of that."""
    sac = SAC(hidden_sizes=(32,), batch_size=64, start_steps=200, learning_rate=3e-3, replay_size=5_000)
    taught = train(sac, Point(), total_steps=2_000, output_dir=str(tmp_path), eval_every=0, progress=False)
    agent = ADPO(hidden_sizes=(32,), num_states=2_000, held_out_states=500, batch_size=64)
    settings = {"teacher": str(taught.folder), "eval_every": 0, "progress": False, "output_dir": str(tmp_path)}
    result = train(agent, Point(), total_steps=1_500, num_seeds=2, **settings)
    best = evaluate_policy(taught.policy(), 50, env=Point()).mean
    untrained = evaluate_policy(load_policy(make_teacher(tmp_path / "random")), 50, env=Point()).mean
    assert best > 0.6 * untrained
    for seed in (0, 1):
        found = evaluate_policy(result.policy(seed), 50, env=Point()).mean
        assert found > best + 0.1 * untrained  # both are negative: at most a tenth of an untrained policy's loss below
    assert all(outcome.extra["kl"] < 0.5 for outcome in result.evaluations[-1][1])
