"""What must hold of every named objective, whatever paper it is from: the test of a new one begins here."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close as assert_near
from token_batches import COLUMNS, GROUP, ROWS, filled_up, littered, loss_of, responses, scored, with_side

from maxent_rl.errors import MissingInputError, ShapeError
from maxent_rl.tokens import objectives

COMMON = (
    "reinforce", "ppo", "grpo", "grpo_trl", "dr_grpo", "rloo", "reinforce_pp", "dapo", "gspo", "cispo", "gmpo", "sapo", "gpg",
)  # fmt: skip
STEP_METRICS = {
    "policy/loss", "policy/clip_fraction_low", "policy/clip_fraction_high", "policy/ratio_min", "policy/ratio_max",
    "policy/kl_k1", "policy/kl_k3", "advantage/mean", "advantage/std", "advantage/min", "advantage/max",
    "response/length", "reference/kl_k3", "entropy/mean", "entropy/p10", "entropy/p50", "entropy/p90",
}  # fmt: skip
# Those that compare whole numbers of right answers, or leave all but the best alone, or whole groups out, have no advantage
# for many a response.
SPARSE = ("ares", "ares_released", "riskpo", "best_of_group", "pass_at_k", "maxrl", "dr_bot", "spear")
# In the quick tests those stand for all that between them have a stage of each slot, further responses, states and turns.
KINDS = ("grpo", "dapo", "ppo_critic", "clip_cov", "aepo_arbitrary", "epo", "adpo", "sdpo")
every = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in KINDS)) for name in objectives.names()]
)


def step(objective, state, outputs, batch):
    """((loss, aux), gradient in the log-probabilities and entropies)."""
    return jax.value_and_grad(lambda out: objective(*scored(objective, state, out, batch)), has_aux=True)(outputs)


@functools.cache
def cases():
    """Batches of one shape that go through one compiled program side by side, each under its name."""
    outputs, batch = responses()
    far = dataclasses.replace(outputs, logp=jnp.where(outputs.logp < -1.5, -1000.0, outputs.logp))
    ends = (jnp.array([ROWS - 2, ROWS - 1]), jnp.array([1, 0]))  # tokens of the last group
    unscored = {"logp_old": batch.logp_old.at[ends].set(jnp.array([jnp.nan, -jnp.inf]))}
    return {
        "plain": (outputs, batch),
        "other settings": (outputs, batch),
        "not a number": littered(outputs, batch),
        "infinite": littered(outputs, batch, jnp.inf),
        "nothing": (outputs, dataclasses.replace(batch, mask=jnp.zeros((ROWS, COLUMNS), bool))),
        "one token": (outputs, dataclasses.replace(batch, mask=jnp.zeros((ROWS, COLUMNS), bool).at[:, 0].set(True))),
        "one response": (outputs, dataclasses.replace(batch, mask=batch.mask.at[1:].set(False))),
        "equal rewards": (outputs, dataclasses.replace(batch, rewards=jnp.full(ROWS, 0.1))),
        "huge rewards": (outputs, dataclasses.replace(batch, rewards=1e6 * batch.rewards)),
        "far from the old policy": (far, batch),
        "unscored tokens": (outputs, dataclasses.replace(batch, **unscored)),
        "without those tokens": (outputs, dataclasses.replace(batch, mask=batch.mask.at[ends].set(False))),
        "unscored response": (outputs, dataclasses.replace(batch, rewards=batch.rewards.at[ROWS - 2].set(jnp.nan))),
        "infinite reward": (outputs, dataclasses.replace(batch, rewards=batch.rewards.at[ROWS - 2].set(jnp.inf))),
        "on policy": (dataclasses.replace(outputs, logp=batch.logp_old, entropy=batch.entropy_old), batch),
    }


def side_by_side(trees):
    """Stacked by NumPy, which compiles nothing, in the types that JAX gives them."""

    def stack(*leaves):
        return np.stack(leaves, dtype=jnp.result_type(leaves[0]))

    return jax.tree.map(stack, *trees)


@functools.cache
def found(name):
    """(objectives, state, cases, what came out of each), by jit of vmap over all cases at once."""
    objective = objectives.make(name)
    other = jax.tree.map(lambda leaf: 0.9 * leaf if isinstance(leaf, float) else leaf, objective)
    state = objective.init()
    given = {case: (out, with_side(objective, state, batch)) for case, (out, batch) in cases().items()}
    each = [other if case == "other settings" else objective for case in given]
    stacked, (outputs, batches) = side_by_side(each), side_by_side(given.values())
    results = jax.jit(jax.vmap(step, in_axes=(0, None, 0, 0)))(stacked, state, outputs, batches)
    results = jax.tree.map(lambda leaf: leaf if is_key(leaf) else np.asarray(leaf), results)
    by_case = {case: jax.tree.map(lambda leaf, i=index: leaf[i], results) for index, case in enumerate(given)}
    return dict(zip(given, each, strict=True)), state, given, by_case


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def assert_close(first, second):
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        if not is_key(one):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@functools.cache
def alone(name):
    """((loss, aux), gradients in what the policy says and in what the batch holds) of one call, neither jitted nor mapped."""
    each, state, given, _ = found(name)
    outputs, batch = given["other settings"]
    numbers = {key: getattr(batch, key) for key in ("logp_old", "logp_ref", "rewards", "entropy_old", "logits_old")}

    def loss(out, numbers):
        return each["other settings"](
            *scored(each["other settings"], state, out, dataclasses.replace(batch, **numbers))
        )

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(outputs, numbers)


@every
def test_jit_and_vmap_equal_a_single_call(name):
    """Of the batch, and of the numbers in the objective, which vary over a mapped axis as seeds do."""
    value, (slopes, _) = alone(name)
    assert_close((value, slopes), found(name)[-1]["other settings"])


@every
def test_everything_is_finite_and_named(name):
    _, state, _, results = found(name)
    for case, ((loss, aux), slope) in results.items():
        assert loss.shape == () and aux.metrics.keys() >= STEP_METRICS, case
        assert all(value.shape == () for value in aux.metrics.values()), case
        assert aux.advantages.shape == aux.mask.shape == (ROWS, COLUMNS)
        assert jax.tree.structure(aux.state) == jax.tree.structure(state)
        for leaf in (leaf for leaf in jax.tree.leaves((loss, aux, slope)) if not is_key(leaf)):
            assert np.isfinite(leaf).all(), case
        np.testing.assert_array_equal(aux.metrics["policy/loss"], loss)


@every
def test_masked_places_change_nothing_whatever_they_hold(name):
    _, _, given, results = found(name)
    for case in ("not a number", "infinite"):
        for one, other in zip(jax.tree.leaves(results[case]), jax.tree.leaves(results["plain"]), strict=True):
            if not is_key(one):
                np.testing.assert_array_equal(one, other)
    slope = results["not a number"][1]
    assert np.all(slope.logp[~given["plain"][1].mask] == 0) and np.all(slope.entropy[~given["plain"][1].mask] == 0)


@every
def test_a_token_without_a_log_probability_is_left_out_and_counted(name):
    """A sampler that rules tokens out before it reports gives minus infinity, and some give nothing."""
    unscored, masked = (found(name)[-1][case] for case in ("unscored tokens", "without those tokens"))
    share = "response/unscored_tokens"
    assert 0 < unscored[0][1].metrics[share] < 0.25 and masked[0][1].metrics[share] == 0
    for (path, one), other in zip(jax.tree.leaves_with_path(unscored), jax.tree.leaves(masked), strict=True):
        if not (is_key(one) or share in jax.tree_util.keystr(path)):
            np.testing.assert_array_equal(one, other)


@every
def test_a_response_without_a_reward_teaches_nothing(name):
    """And takes nobody with it: the others are compared with each other."""
    results = found(name)[-1]
    (_, aux), _ = results["unscored response"]
    others = aux.advantages if name in SPARSE else aux.advantages[ROWS - 1]
    assert np.all(aux.advantages[ROWS - 2] == 0)
    assert name == "maxrl" or np.any(others != 0)  # which has none where the mean is below 0, as here
    np.testing.assert_allclose(
        aux.metrics["response/unscored"], 1 / ROWS, rtol=0.2
    )  # of more rows where some are added
    for one, other in zip(
        jax.tree.leaves(results["unscored response"]), jax.tree.leaves(results["infinite reward"]), strict=True
    ):
        if not is_key(one):
            np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@every
def test_groups_may_be_said_by_an_index(name):
    """Of groups of one size that is what the size says; ADPO, which lays them side by side, says what to do."""
    each, state, given, _ = found(name)
    objective, batch = each["plain"], given["plain"][1]
    index = jnp.array([5, 5, 5, 5, 2, 2, 2, 2])
    by_index = dataclasses.replace(batch, group_size=1, group_index=index)
    if name.startswith("adpo"):
        with pytest.raises(ShapeError, match="fill them up with rows of an empty mask and a reward of NaN"):
            objective.prepare(state, by_index)
        return
    if batch.side is not None:
        side = dataclasses.replace(batch.side, group_size=1, group_index=index[:GROUP])
        by_index = dataclasses.replace(by_index, side=side)
    found_by_index, by_size = objective.prepare(state, by_index)[1], prepared(name)[-1]
    np.testing.assert_array_equal(found_by_index.mask, by_size.mask)
    assert_close(found_by_index.advantages, by_size.advantages)


@every
def test_an_empty_mask_gives_0(name):
    (loss, _), slope = found(name)[-1]["nothing"]
    assert loss == 0 and np.all(slope.logp == 0) and np.all(slope.entropy == 0)


@every
def test_nothing_flows_into_the_batch(name):
    """Whatever drew the responses is a constant."""
    _, (_, slopes) = alone(name)
    assert all(np.all(slope == 0) for slope in slopes.values())


@functools.cache
def prepared(name):
    """(state, outputs, batch) of the plain case, prepared first, as trainers of several steps do."""
    each, state, given, _ = found(name)
    after, outputs, batch = scored(each["plain"], state, *given["plain"])
    after, batch = each["plain"].prepare(after, batch)
    return after, outputs, batch


@pytest.mark.slow
@every
def test_a_prepared_batch_is_the_batch(name):
    """Preparing first gives what the call gives by itself."""
    each, _, _, results = found(name)
    after, outputs, batch = prepared(name)
    assert batch.prepared and batch.advantages.shape == (ROWS, COLUMNS) and batch.logits_old is None
    assert_close(each["plain"](after, outputs, batch.rows(slice(None))), results["plain"][0])
    assert each["plain"].prepare(after, batch)[1] is batch


@jax.jit
def surveyed(objective, state, outputs, of_side, batch):
    """(state, outputs, step): a step to be learned from in parts, and what the policy says of its rows."""
    state, batch = objective.prepare(state, batch)
    if batch.source is not None:
        outputs = jax.tree.map(lambda *both: jnp.concatenate(both)[batch.source], outputs, of_side)
    step, aux = objective.survey(state, outputs, batch)
    return aux.state, outputs, step


compiled_step = jax.jit(step)


def in_parts(objective, state, outputs, batch):
    """(loss, state, slopes) of a batch among masked rows and columns, as the mean over three groups in another order."""
    of_side = responses(seed=7)[0] if batch.side is None else responses(seed=7, rows=batch.side.mask.shape[0])[0]
    wide = filled_up(batch, above=GROUP, left=1, right=2)
    if batch.side is not None:
        wide = dataclasses.replace(wide, side=filled_up(batch.side, left=1, right=2))
    given = filled_up(outputs, above=GROUP, left=1, right=2), filled_up(of_side, left=1, right=2)
    state, of_rows, whole = surveyed(objective, state, *given, wide)
    of_rows, whole = jax.device_get((of_rows, whole))  # NumPy takes rows of them without a program for each
    count = whole.mask.shape[0] // GROUP
    loss, slopes = 0.0, jax.tree.map(lambda leaf: np.zeros(leaf.shape), given[0])
    for rows in reversed(np.arange(count * GROUP).reshape(count, GROUP)[:, ::-1]):
        part = whole.rows(rows)
        (one, aux), slope = compiled_step(objective, state, jax.tree.map(lambda leaf, r=rows: leaf[r], of_rows), part)
        loss, state = loss + one / count, aux.state
        here = rows if whole.source is None else np.asarray(whole.source)[rows]
        for total, found in zip(jax.tree.leaves(slopes), jax.tree.leaves(slope), strict=True):
            total[here[here >= 0]] += np.asarray(found)[here >= 0] / count
    return loss, state, jax.tree.map(lambda leaf: leaf[GROUP:, 1:-2], slopes)


def assert_parts_are_the_whole(objective, state, outputs, batch, whole):
    (loss, aux), slopes = whole
    found, after, of_parts = in_parts(objective, state, outputs, batch)
    assert_near(found, loss, scale=1.0)  # of the tokens' losses, which cancel
    assert_near(of_parts, slopes)
    for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(aux.state), strict=True):
        one, other = (jax.random.key_data(leaf) if is_key(leaf) else leaf for leaf in (one, other))
        assert_near(one, other)


@every
def test_a_step_is_the_mean_of_its_parts(name):
    """The same gradient and the same state, however the step is cut, filled up and ordered."""
    each, state, given, results = found(name)
    assert_parts_are_the_whole(each["plain"], state, *given["plain"], results["plain"])


TIES = jnp.array([1.0, 0, 1, 0, 2, 0, 1, -1])
OPTIONAL = {
    "kl_weight": 0.1, "kl_reward_weight": 0.1, "entropy_bonus": 0.1, "target_entropy": 0.2, "top_entropy_share": 0.4,
    "drop_uniform_groups": True,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("grpo", {"mask_truncated": True}),
        ("grpo_trl", {"mask_truncated": True}),
        ("grpo", {"aggregation": "seq-mean-token-sum", "count_rows": "all", "mask_truncated": True}),
        ("grpo", {"aggregation": "seq-mean-token-sum-norm"}),
        ("grpo", {"aggregation": "token-sum", "off_policy_threshold": 0.05}),
        ("dr_grpo", {"entropy_bonus": 0.1, "entropy_average": "tokens", "adaptive_kl_target": 0.1}),
        ("dr_grpo", {"mask_truncated": True}),
        ("grpo", OPTIONAL),
        ("grpo", {"sampler_level": "sequence", "sampler_beyond": "drop", "reject_level": "geometric", "reject_high": 2.0}),
        ("clip_cov", {"covariance_low": 0.0, "clip_share": 0.2}),
        ("kl_cov", {"kl_cov_share": 0.2}),
        ("lp_reg", {"lp_reg_share": 0.5, "lp_reg_min_p": 0.5}),
        ("steer", {"steer_map": "linear"}),
        ("clip_v", {"clip_v_width": 0.1, "clip_v_share": 0.2}),
        ("adpo", {"adpo_loss": "pairwise-hard", "temperature_rule": "smooth"}),
        ("aepo_arbitrary", {"side_mode": "add", "estimate_rows": "main", "top_entropy_share": 0.4}),
    ],
)  # fmt: skip
def test_a_step_is_the_mean_of_its_parts_with_other_settings(name, settings):
    """Every aggregation, responses that are left out, choices that do choose, ties, and terms beside the average."""
    objective = objectives.make(name, **settings)
    outputs, batch = responses(rewards=TIES)
    state = objective.init()
    batch = with_side(objective, state, batch)
    assert_parts_are_the_whole(objective, state, outputs, batch, compiled_step(objective, state, outputs, batch))


@pytest.mark.parametrize("name", [name for name in objectives.names() if objectives.make(name).surveys])
def test_a_part_of_a_step_that_nobody_has_looked_at_is_refused(name):
    """What one part chose among its own tokens would not be what the step chooses."""
    objective, (outputs, batch) = objectives.make(name), responses()

    def of_part(state, batch):
        return objective(state, jax.tree.map(lambda leaf: leaf[:4], outputs), batch.rows(slice(0, 4)))

    state, prepared = jax.eval_shape(objective.prepare, objective.init(), batch)
    with pytest.raises(MissingInputError, match=r"these 4 rows are a part of one: take rows of what objective\.survey"):
        jax.eval_shape(of_part, state, prepared)
    jax.eval_shape(lambda state, batch: of_part(state, batch.rows(slice(0, 4)).as_step()), state, prepared)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMON)
def test_groups_of_one_and_equal_rewards(name):
    """Equal rewards teach nothing, to the bit; a group of one has no deviation, and stays finite."""
    each, _, given, results = found(name)
    (loss, aux), slope = results["equal rewards"]
    assert loss == 0 and np.all(slope.logp == 0) and np.all(aux.advantages == 0)
    outputs, batch = given["plain"]
    (loss, aux), slope = step(each["plain"], (), outputs, dataclasses.replace(batch, group_size=1))
    assert np.isfinite(loss) and np.isfinite(aux.advantages).all() and np.isfinite(slope.logp).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in COMMON if name != "cispo"])  # its weight is held constant
def test_gradients_are_finite_differences(name):
    outputs, batch = responses()
    objective = objectives.make(name, kl_weight=0.1)
    _, prepared = objective.prepare((), batch)
    direction = np.random.default_rng(1).normal(size=(ROWS, COLUMNS))
    with jax.enable_x64(True):
        logp = np.asarray(outputs.logp, np.float64)

        def loss(values):
            return loss_of(objective, dataclasses.replace(outputs, logp=values), prepared)

        @jax.jit
        def slopes(values):
            further, back = jax.lax.map(loss, jnp.stack([values + 1e-5 * direction, values - 1e-5 * direction]))
            return jnp.sum(jax.grad(loss)(values) * direction), (further - back) / 2e-5

        slope, numeric = slopes(logp)
        assert numeric.dtype == np.float64
        np.testing.assert_allclose(slope, numeric, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
def test_groups_must_be_whole():
    outputs, batch = responses(group_size=3)
    assert ROWS % GROUP == 0
    for name in COMMON:
        with pytest.raises(ValueError, match="8 rows are not whole groups of 3"):
            loss_of(objectives.make(name), outputs, batch)
