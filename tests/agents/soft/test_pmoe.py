"""PMOE: the sheet's checks 1 to 8, what each variant trains and leaves alone, and that one expert is SAC to the bit."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from batches import assert_alike, batch_of, same
from support.closeness import assert_close, rounding

from maxent_rl.agents import SAC, acting_state, check_agent
from maxent_rl.agents.soft.pmoe import PMOE
from maxent_rl.distributions import TanhGaussian, TanhGaussianMixture
from maxent_rl.errors import InvalidSettingError, UnknownNameError
from maxent_rl.types import Spec

SPEC = Spec((3,), (2,), 100)
K = 3
SMALL = PMOE(hidden_sizes=(16, 16), batch_size=8, num_experts=K)
ROUTERS = ["frequency", "score", "exact", "gumbel", "straight_through", "attention"]
CHOOSING, RELAXED = ROUTERS[:3], ROUTERS[3:5]
# Every router, and each router that chooses with both densities and both losses, though not with each pair of them; what is
# SAC's with some of them.
VARIANTS = {
    f"{router}-{density}-{learn}": SMALL.replace(router=router, density=density, expert_loss=learn, **settings)
    for router, density, learn, settings in (
        ("frequency", "component", "chosen", {}),
        ("frequency", "mixture", "all", {"temperature_sample": "fresh"}),
        ("score", "component", "all", {}),
        ("score", "mixture", "chosen", {}),
        ("exact", "component", "chosen", {"network": "simba", "normalize_observations": True}),
        ("exact", "mixture", "all", {}),
        ("gumbel", "mixture", "chosen", {}),
        ("straight_through", "component", "chosen", {}),
        ("attention", "component", "chosen", {
            "num_critics": 3, "target_critics": 2, "actor_value": "mean", "critic_dropout": 0.1,
        }),
    )
}  # fmt: skip
QUICK = {"frequency-component-chosen"}
NOISE = jax.random.normal(jax.random.key(7), (8, K, 2))
KEY = jax.random.key(1)

init = jax.jit(lambda agent, key: agent.init(key, SPEC))
update = jax.jit(lambda agent, state, batch, key: agent.update(state, batch, key))


def policy_loss(agent, state, batch, noise, key):
    form = agent._relaxed_loss if agent.router in RELAXED else agent._chosen_loss
    return form(state, batch, noise, key)


def gradients(agent, state, batch=None, noise=NOISE, key=KEY):
    """((loss, (log_prob, metrics)), gradient) of the policy's loss; noise is [batch, expert, action]."""
    return _gradients(agent, state, batch or batch_of(), noise, key)


@jax.jit
def _gradients(agent, state, batch, noise, key):
    return jax.value_and_grad(policy_loss(agent, state, batch, noise, key), has_aux=True)(state.policy)


@pytest.fixture(scope="module")
def state():
    """Experts that lie apart, so that all of them are best somewhere, and a router that is not even."""
    state = init(SMALL, jax.random.key(0))
    state.policy["params"]["router"]["bias"] = jnp.array([0.0, 0.5, -0.5])
    return state


def with_policy(state, **heads):
    """The state with given leaves of the policy's layers, `head_bias=...`."""
    layers = {name: dict(layer) for name, layer in state.policy["params"].items()}
    for name, value in heads.items():
        layer, leaf = name.split("_")
        layers[layer][leaf] = value
    return dataclasses.replace(state, policy={"params": layers})


def columns(leaf):
    """The head's columns as [..., mean or log_std, expert, action]."""
    return np.asarray(leaf).reshape(*leaf.shape[:-1], 2, K, 2)


def by_hand(agent, state, observation, noise):
    """Weights [batch, expert], and all experts' actions, own and mixture log-densities in float64."""
    mixture = agent.experts(state, observation)
    mean, deviation = np.float64(mixture.mean), np.exp(np.float64(mixture.log_std))
    weights = scipy.special.softmax(np.float64(mixture.logits), axis=-1)
    u = mean + deviation * np.float64(noise)
    jacobian = np.sum(np.log1p(-(np.tanh(u) ** 2)), axis=-1)
    own = scipy.stats.norm.logpdf(u, mean, deviation).sum(-1) - jacobian
    under = scipy.stats.norm.logpdf(u[:, :, None], mean[:, None], deviation[:, None]).sum(-1)
    return weights, np.tanh(u), own, scipy.special.logsumexp(under, b=weights[:, None], axis=-1) - jacobian


# One expert is SAC


@pytest.mark.slow
def test_one_expert_is_sac_to_the_bit():
    """Check 1: same names of parameters, same states leaf by leaf over 25 updates, same actions."""
    sac, pmoe = SAC(hidden_sizes=(16, 16)), PMOE(hidden_sizes=(16, 16), num_experts=1)
    batch = batch_of()

    @jax.jit
    def run(agent, key):
        first = agent.init(key, SPEC)
        step = lambda i, s: agent.update(s, batch, jax.random.fold_in(key, i))[0]  # noqa: E731
        last = jax.lax.fori_loop(0, 25, step, first)
        return first, last, agent.act(last, batch.observation, key), agent.mode(last, batch.observation)

    alone, mixed = (run(agent, jax.random.key(3)) for agent in (sac, pmoe))
    assert jax.tree.structure(alone) == jax.tree.structure(mixed)
    assert same(alone, mixed) and not same(mixed[0], mixed[1])


@pytest.mark.slow
@pytest.mark.parametrize("temperature_sample", ["shared", "fresh"])
def test_with_one_expert_every_router_is_the_very_program_of_sac(temperature_sample):
    state = jax.eval_shape(lambda: SAC(hidden_sizes=(16,)).init(jax.random.key(0), SPEC))

    def program(agent):
        text = str(jax.make_jaxpr(agent.update)(state, batch_of(), jax.random.key(1)))
        return re.sub(r"0x[0-9a-f]+", "", text)

    settings = {"hidden_sizes": (16,), "temperature_sample": temperature_sample}
    expected = program(SAC(**settings))
    for router in ROUTERS:
        assert program(PMOE(**settings, num_experts=1, router=router)) == expected, router
    assert program(PMOE(**settings, num_experts=1, expert_loss="all", density="mixture")) == expected


@pytest.mark.slow
def test_one_expert_is_also_a_mixture_of_one():
    agent = SMALL.replace(num_experts=1)
    state = init(agent, jax.random.key(0))
    mixture, only = agent.experts(state, jnp.ones((4, 3))), agent.distribution(state, jnp.ones((4, 3)))
    assert isinstance(only, TanhGaussian) and mixture.mean.shape == (4, 1, 2)
    action = only.mode()
    assert_close(mixture.log_prob(action), only.log_prob(action))


# What trains what


@pytest.mark.slow
@pytest.mark.parametrize(
    ("router", "density"),
    [
        ("frequency", "component"),
        ("frequency", "mixture"),
        pytest.param("score", "component", marks=pytest.mark.matrix),
        pytest.param("exact", "mixture", marks=pytest.mark.matrix),
    ],
)
def test_the_routers_loss_trains_only_the_router_and_the_experts_loss_only_the_rest(state, router, density):
    """Check 2, to the bit: a weight of 0 leaves the experts' loss alone."""
    agent = SMALL.replace(router=router, density=density)
    (_, without), (_, once), (_, thrice) = (gradients(agent.replace(router_weight=w), state) for w in (0.0, 1.0, 3.0))
    without, once, thrice = (gradient["params"] for gradient in (without, once, thrice))
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(without["router"]))
    assert_close(thrice["router"], jax.tree.map(lambda leaf: 3 * leaf, once["router"]))
    assert np.abs(once["router"]["bias"]).max() > 1e-4
    for part in ("head", "MLP_0"):
        assert same(without[part], once[part]) and same(once[part], thrice[part])
        assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(once[part]))


@pytest.mark.parametrize(
    "router", [pytest.param(r, marks=[pytest.mark.matrix] * (r != "frequency")) for r in ROUTERS[:5]]
)
def test_the_router_never_moves_the_trunk(state, router):
    """With a head that does not read the trunk, the router is all that could move it."""
    blind = with_policy(state, head_kernel=jnp.zeros_like(state.policy["params"]["head"]["kernel"]))
    _, gradient = gradients(SMALL.replace(router=router), blind)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(gradient["params"]["MLP_0"]))
    assert np.abs(gradient["params"]["router"]["kernel"]).max() > 0


def test_experts_that_are_nowhere_best_get_no_gradient(state):
    """Check 3: their columns of the head are 0 to the bit; the best ones' columns and the trunk are not."""
    one = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), batch_of())
    (_, (_, metrics)), gradient = gradients(SMALL, state, one, jnp.broadcast_to(NOISE[:1], NOISE.shape))
    best = np.array([metrics[f"router/best_{k}"] for k in range(K)])
    assert sorted(best) == [0, 0, 1]
    for leaf in gradient["params"]["head"].values():
        moved = np.any(columns(leaf) != 0, axis=-1).reshape(-1, K).any(0)
        np.testing.assert_array_equal(moved, best == 1)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient["params"]["MLP_0"]))


@pytest.mark.slow
def test_back_propagation_to_all_moves_every_expert(state):
    one = jax.tree.map(lambda leaf: leaf[:1], batch_of())
    _, gradient = gradients(SMALL.replace(expert_loss="all"), state, one, NOISE[:1])
    assert np.all(np.any(columns(gradient["params"]["head"]["bias"]) != 0, axis=-1))
    assert np.abs(gradient["params"]["router"]["bias"]).max() > 1e-4


@pytest.mark.parametrize(
    "agent",
    [
        SMALL,
        pytest.param(SMALL.replace(density="mixture"), marks=pytest.mark.matrix),
        pytest.param(SMALL.replace(router="exact", expert_loss="all"), marks=pytest.mark.matrix),
    ],
    ids=["frequency", "mixture", "exact-all"],
)
def test_permuting_experts_permutes_everything_and_leaves_losses(state, agent):
    """Check 4: head and router columns and the noise together."""
    order = np.array([2, 0, 1])
    layers = state.policy["params"]
    head = {leaf: columns(value)[..., order, :].reshape(value.shape) for leaf, value in layers["head"].items()}
    router = {leaf: value[..., order] for leaf, value in layers["router"].items()}
    moved = with_policy(
        state,
        head_kernel=head["kernel"],
        head_bias=head["bias"],
        router_kernel=router["kernel"],
        router_bias=router["bias"],
    )
    (loss, (_, metrics)), gradient = gradients(agent, state)
    (moved_loss, (_, moved_metrics)), moved_gradient = gradients(agent, moved, noise=NOISE[:, order])
    assert_close(moved_loss, loss, scale=1.0)  # log-probabilities less values, each about 1
    for name in ("router/loss", "router/entropy", "router/mean_distance"):
        np.testing.assert_allclose(moved_metrics[name], metrics[name], rtol=1e-5)
    for name in ("best", "usage"):
        values, moved_values = ([m[f"router/{name}_{k}"] for k in range(K)] for m in (metrics, moved_metrics))
        assert_close(np.array(moved_values), np.array(values)[order])
    for leaf in ("kernel", "bias"):
        expected = columns(gradient["params"]["head"][leaf])[..., order, :]
        assert_close(columns(moved_gradient["params"]["head"][leaf]), expected)
        assert_close(moved_gradient["params"]["router"][leaf], gradient["params"]["router"][leaf][..., order])
    assert_close(moved_gradient["params"]["MLP_0"], gradient["params"]["MLP_0"])


# Losses and targets by hand


@pytest.mark.parametrize("density", ["component", "mixture"])
def test_losses_by_hand(state, density):
    """The best expert's alpha log p - q, and the squared distance of the weights to its one-hot, over the batch."""
    batch, alpha = batch_of(), 0.3
    state = dataclasses.replace(state, log_alpha=jnp.log(jnp.float32(alpha)))
    agent = SMALL.replace(density=density)
    (loss, (log_prob, metrics)), _ = gradients(agent, state)
    weights, actions, own, whole = by_hand(agent, state, batch.observation, NOISE)
    q = np.stack(
        [agent.values(state.critics, batch.observation, jnp.float32(actions[:, k]), KEY) for k in range(K)], -1
    )
    q, rows = np.float64(q.min(0)), np.arange(8)
    best = np.argmax(q, axis=-1)
    charged = (own if density == "component" else whole)[rows, best]
    frequency = np.mean((np.eye(K)[best] - weights) ** 2)
    np.testing.assert_allclose(log_prob, charged, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics["router/loss"], frequency, rtol=1e-4)
    np.testing.assert_allclose(loss, np.mean(alpha * charged - q[rows, best]) + frequency, rtol=1e-4, atol=1e-5)
    assert 0 <= metrics["router/loss"] <= 2 / K
    np.testing.assert_allclose([metrics[f"router/best_{k}"] for k in range(K)], np.bincount(best, minlength=K) / 8)


@pytest.mark.slow
@pytest.mark.parametrize("density", ["component", "mixture"])
def test_exact_loss_by_hand(state, density):
    """sum_k w_k (alpha log p_k - q_k), with the router's own entropy where the density does not hold it already."""
    batch, alpha = batch_of(), 0.3
    state = dataclasses.replace(state, log_alpha=jnp.log(jnp.float32(alpha)))
    agent = SMALL.replace(router="exact", density=density)
    (_, (_, metrics)), _ = gradients(agent, state)
    weights, actions, own, whole = by_hand(agent, state, batch.observation, NOISE)
    q = np.stack(
        [agent.values(state.critics, batch.observation, jnp.float32(actions[:, k]), KEY) for k in range(K)], -1
    )
    charged = own + np.log(weights) if density == "component" else whole
    expected = np.mean(np.sum(weights * (alpha * charged - np.float64(q.min(0))), axis=-1))
    np.testing.assert_allclose(metrics["router/loss"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("density", ["component", "mixture"])
def test_critic_target_charges_the_density_that_was_asked_for(state, density):
    """Of the drawn expert alone (the paper), or of the whole mixture at its action; never of another expert's action."""
    batch, noise, agent = batch_of(), NOISE[:, 0], SMALL.replace(density=density)
    following = agent.follow(state, batch, noise, KEY)
    value, log_prob = agent.judge_next(state.target_critics, batch, following, KEY).min(0), following.log_prob
    choice = np.asarray(agent.experts(state, batch.next_observation).router.sample(KEY))
    assert len(set(choice.tolist())) > 1
    every = np.broadcast_to(noise[:, None], (8, K, 2))
    _, actions, own, whole = by_hand(agent, state, batch.next_observation, every)
    rows = np.arange(8)
    np.testing.assert_allclose(log_prob, (own if density == "component" else whole)[rows, choice], rtol=1e-4, atol=1e-5)
    action = jnp.float32(actions[rows, choice])
    q = agent.values(state.target_critics, batch.next_observation, action, KEY).min(0)
    np.testing.assert_allclose(value, q, rtol=1e-4, atol=1e-5)


def test_the_mixtures_density_is_at_least_each_experts_weighted_one(state):
    """Check 7, through the agent: charging the mixture is never more than log w cheaper than charging the expert."""
    weights, _, own, whole = by_hand(SMALL, state, batch_of().observation, NOISE)
    assert np.all(whole >= np.log(weights) + own - 1e-9)


@pytest.mark.slow
def test_fresh_temperature_samples_choose_experts_independently_of_their_noise():
    """A temperature that settled at the wrong entropy: choice and noise were made of the same random bits."""
    drawn = []

    class Recording(PMOE):
        def draw(self, parameters, observation, noise, key):
            drawn.append((noise, self.policy(parameters, observation).router.sample(key)))
            return super().draw(parameters, observation, noise, key)

    agent = Recording(hidden_sizes=(16, 16), num_experts=2, temperature_sample="fresh")
    even = init(SMALL.replace(num_experts=2), jax.random.key(0))
    even = with_policy(even, router_kernel=jnp.zeros((16, 2)), router_bias=jnp.zeros(2))
    batch = batch_of(2000)

    @jax.jit
    def run():
        agent.update_temperature(even, batch, jnp.zeros(2000), KEY)
        return drawn[0]

    noise, choice = run()
    agree = np.mean((noise[:, 1] > noise[:, 0]) == (choice == 1))
    assert abs(agree - 0.5) < 4 * 0.5 / np.sqrt(2000)


# The agent as a whole


@pytest.mark.slow
@pytest.mark.parametrize(
    "agent",
    [pytest.param(agent, marks=[pytest.mark.matrix] * (name not in QUICK)) for name, agent in VARIANTS.items()],
    ids=VARIANTS,
)
def test_update_keeps_structure_and_types_and_stays_finite(agent):
    check_agent(agent, SPEC, "test")
    state = init(agent, jax.random.key(0))
    after, metrics = update(agent, state, batch_of(), jax.random.key(1))
    assert_alike(state, after)
    assert all(np.isfinite(value) and np.shape(value) == () for value in metrics.values())
    for layer in ("router", "head"):
        assert not same(state.policy["params"][layer], after.policy["params"][layer])
    assert not same(state.critics, after.critics) and not same(state.log_alpha, after.log_alpha)
    np.testing.assert_allclose(sum(metrics[f"router/usage_{k}"] for k in range(K)), 1.0, rtol=1e-5)
    assert 0 <= metrics["router/entropy"] <= np.log(K) * (1 + rounding(20))
    assert metrics["router/mean_distance"] > 0 and metrics["router/collapsed"] == 0
    if agent.router in CHOOSING:
        np.testing.assert_allclose(sum(metrics[f"router/best_{k}"] for k in range(K)), 1.0, rtol=1e-5)
        assert np.isfinite(metrics["router/loss"])


def test_a_router_that_holds_on_to_one_expert_is_flagged(state):
    """Check 8."""
    stuck = with_policy(state, router_bias=jnp.array([0.0, 20.0, 0.0]))
    _, metrics = update(SMALL, stuck, batch_of(), jax.random.key(1))
    assert metrics["router/collapsed"] == 1 and metrics["router/usage_1"] > 0.99
    np.testing.assert_allclose(metrics["router/entropy"], 0.0, atol=1e-5)
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "agent",
    [SMALL, pytest.param(VARIANTS["gumbel-mixture-chosen"], marks=pytest.mark.matrix)],
    ids=["frequency", "gumbel"],
)
@pytest.mark.parametrize(("head", "router"), [(30.0, 80.0), (-30.0, -80.0)])
def test_far_experts_and_extreme_routers_keep_updates_finite(state, head, router, agent):
    far = with_policy(
        state, head_bias=jnp.full(12, head), router_bias=jnp.array([router, 0.0, -router])
    )  # means of +-30, log_std at its bounds
    after, metrics = update(agent, far, batch_of(), jax.random.key(1))
    assert_alike(far, after)
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.slow
@pytest.mark.parametrize("router", ["frequency", "attention"])
def test_acting_needs_only_the_acting_state(state, router):
    agent = SMALL.replace(router=router)
    part, observation = acting_state(agent, state), batch_of(64).observation
    assert len(jax.tree.leaves(part)) < len(jax.tree.leaves(state))
    act, mode = jax.jit(agent.act), jax.jit(agent.mode)
    actions = act(part, observation, KEY)
    np.testing.assert_array_equal(actions, act(state, observation, KEY))
    np.testing.assert_array_equal(mode(part, observation), mode(state, observation))
    assert actions.shape == (64, 2) and np.abs(actions).max() < 1
    assert act(part, observation[0], KEY).shape == (2,)


def test_the_mode_is_the_heaviest_experts_mean(state):
    observation = batch_of().observation
    mixture = SMALL.experts(state, observation)
    heaviest = np.argmax(mixture.logits, axis=-1)
    expected = np.tanh(np.asarray(mixture.mean)[np.arange(8), heaviest])
    assert_close(SMALL.mode(state, observation), expected)
    assert isinstance(SMALL.distribution(state, observation), TanhGaussianMixture)


def test_attention_acts_by_one_gaussian_of_the_weighted_means_and_deviations(state):
    agent, observation = SMALL.replace(router="attention"), batch_of().observation
    policy, mixture = agent.distribution(state, observation), agent.experts(state, observation)
    assert isinstance(policy, TanhGaussian)
    weights = np.asarray(jax.nn.softmax(mixture.logits))[..., None]
    assert_close(policy.mean, np.sum(weights * mixture.mean, axis=1))
    np.testing.assert_allclose(np.exp(policy.log_std), np.sum(weights * np.exp(mixture.log_std), axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("agent", "name", "values"),
    [
        (SMALL, "router_weight", (0.5, 2.0)),
        pytest.param(VARIANTS["gumbel-mixture-chosen"], "relaxation", (0.2, 2.0), marks=pytest.mark.matrix),
    ],
    ids=["router_weight", "relaxation"],
)
def test_numeric_hyper_parameters_are_leaves_and_vmap(state, agent, name, values):
    """The weight of the router's loss and the relaxation change nothing that is compiled, and can differ within a vmap."""
    assert len(jax.tree.leaves(SMALL)) == len(jax.tree.leaves(SAC())) + 4
    at = lambda value: gradients(agent.replace(**{name: value}), state)[0][0]  # noqa: E731
    many = jax.vmap(at)(jnp.array(values))
    assert many[0] != many[1]
    assert_close(many, np.array([at(value) for value in values]), scale=1.0)  # log-probabilities less values


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_experts": 0}, "--num-experts must be at least 1"),
        ({"relaxation": 0.0}, "--relaxation must be greater than 0"),
        ({"router_weight": 0.0}, "--router-weight must be greater than 0"),
        ({"router": "gumbel", "expert_loss": "all"}, "--expert-loss all does not go with --router gumbel"),
        ({"router": "straight_through", "expert_loss": "all"}, "--router straight_through"),
        ({"router": "attention", "expert_loss": "all"}, "--router attention"),
        ({"router": "attention", "density": "mixture"}, "--density mixture does not go with --router attention"),
        ({"target_entropy": 1.5}, "1.38629"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(InvalidSettingError) as caught:
        check_agent(PMOE(**settings), SPEC, "test")
    assert words in str(caught.value)


def test_unknown_router_names_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'frequency'"):
        check_agent(PMOE(router="frequencies"), SPEC, "test")
