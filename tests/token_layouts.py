"""One step of a small language model, learned from whole, in packed slices, and by two devices: the gradient is one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from token_batches import COLUMNS, PROMPT, VOCABULARY, arrays, responses

from maxent_rl import losses
from maxent_rl.networks.transformer import Transformer, TransformerConfig, unembedding
from maxent_rl.tokens import LanguageModel, PreferenceBatch, Prompted, TokenOutputs, objectives, packing, preferences
from maxent_rl.tokens.sampling import score

CONFIG = TransformerConfig(
    vocabulary_size=VOCABULARY, hidden_size=16, num_layers=1, num_heads=2, num_key_value_heads=1, head_size=8,
    intermediate_size=16,
)  # fmt: skip
ROWS, PARTS, DEVICES = 16, 4, 2
GROUPS = np.repeat(np.arange(5), [3, 4, 2, 4, 3])  # of unequal sizes, and the third one on both devices
ROW_LENGTH = 12


@functools.cache
def model():
    """With weights large enough that its tokens are not all alike."""
    fresh = LanguageModel.create(CONFIG, jax.random.key(0), temperature=0.9)
    return fresh.having(jax.tree.map(lambda leaf: leaf if leaf.ndim == 1 else 12.0 * leaf, fresh.params))


def drawn(rows=ROWS, seed=0):
    """(responses with all that any objective asks for, near what the model says of them; logits under another policy)."""
    both = [responses(seed=2 * seed + number)[1] for number in range(rows // 8)]
    batch = jax.tree.map(lambda *leaves: np.concatenate(leaves), *both)
    draw = np.random.default_rng(100 + seed)
    lengths = draw.integers(1, PROMPT + 1, rows)
    prompts = draw.integers(0, VOCABULARY, (rows, PROMPT))
    context = Prompted(prompts, np.arange(PROMPT) < lengths[:, None], np.asarray(batch.mask))

    @jax.jit
    def logits_of(params, context, tokens):
        hidden = score(Transformer(CONFIG), params, context.prompts, context.prompt_mask, tokens, context.response_mask)
        return hidden @ unembedding(params, CONFIG) / model().temperature

    exact = np.asarray(logits_of(model().params, jax.tree.map(jnp.asarray, context), jnp.asarray(batch.tokens)))
    old, reference, sampler = (exact + 0.3 * draw.normal(size=exact.shape) for _ in range(3))

    def of_tokens(logits):
        log_probs = np.asarray(jax.nn.log_softmax(logits))
        return np.take_along_axis(log_probs, np.asarray(batch.tokens)[..., None], axis=-1)[..., 0]

    batch = dataclasses.replace(
        batch, context=context, logits_old=old, logp_old=of_tokens(old), logp_ref=of_tokens(reference),
        logp_drawn=of_tokens(sampler), entropy_old=np.asarray(losses.softmax_entropy(old)),
    )  # fmt: skip
    return batch, draw


def of_objective(objective):
    """Responses in groups of unequal sizes, one of which has no reward, and one token no log-probability."""
    batch, draw = drawn()
    rewards, logp_old, mask = (np.array(getattr(batch, name)) for name in ("rewards", "logp_old", "mask"))
    rewards[[6, 7, 8]] = rewards[5]  # of a group whose rewards are equal but for one
    rewards[9:13] = [1.0, 0.1, 0.0, 0.2]  # of one right response alone
    rewards[4], logp_old[9, 0] = np.nan, np.nan
    if objective.whole_groups:  # of one size, which rows without tokens fill up
        groups, size, index = np.repeat(np.arange(4), 4), 4, None
        mask[[3, 14]], rewards[[3, 14]] = False, np.nan
        batch = dataclasses.replace(batch, context=dataclasses.replace(batch.context, response_mask=mask))
    else:
        groups, size = GROUPS, 1
        index = groups
    batch = dataclasses.replace(
        batch, rewards=rewards, logp_old=logp_old, mask=mask, group_size=size, group_index=index,
        problem=groups + 7, task=groups % 2, difficulty=groups + 1.0,
        greedy_rewards=draw.normal(size=5).round(2)[groups],
    )  # fmt: skip
    if objective.sampling(objective.init()).side is not None:
        side = jax.tree.map(lambda leaf: leaf[:4], drawn(8, seed=1)[0])
        batch = dataclasses.replace(batch, side=arrays(dataclasses.replace(side, group_size=4)))
    return jax.tree.map(jnp.asarray, arrays(batch))


def outputs(params, batch, told=None):
    own = model().having(params)
    hidden = own.hidden(batch.context, batch.tokens)
    found = own.statistics(batch.context, batch.tokens, hidden=hidden, **(told or {}))
    return TokenOutputs(found.logp, found.entropy, compared=found.extra, value=hidden[..., 0])


def packed_outputs(params, packed, told=None):
    own = model().having(params)
    hidden = own.packed_hidden(packed)
    found = own.packed_statistics(packed, hidden=hidden, **(told or {}))
    return TokenOutputs(found.logp, found.entropy, compared=found.extra, value=packed.spread(hidden[..., 0]))


@functools.cache
def teaching():
    """A teacher, and what any objective asks of it."""
    with jax.ensure_compile_time_eval():  # it may be asked first where all else is traced
        made = [objectives.make(name) for name in objectives.names()]
        compared = {name: each for own in made for name, each in own.teaching(own.init()).compared.items()}
        teacher = model().having(jax.tree.map(lambda leaf: 0.9 * leaf, model().params))
    return {"teacher": teacher, "compared": compared}


@jax.jit
def whole(objective, state, params, batch):
    """(gradient, state) of a step at once, from responses as they were drawn: nothing is packed or cut."""
    state, batch = objective.prepare(state, batch)
    slope, aux = jax.grad(lambda p: objective(state, outputs(p, batch), batch), has_aux=True)(params)
    return slope, aux.state


@jax.jit
def surveyed(objective, state, params, batch):
    """(state, step) to be learned from in parts."""
    state, batch = objective.prepare(state, batch)
    step, aux = objective.survey(state, outputs(params, batch), batch)
    return aux.state, step


def in_parts(objective, step, parts=PARTS):
    """(the rows of `parts` parts one after the other, their packed layouts [parts, ...]) of about as many tokens each."""
    step = jax.device_get(step)
    lengths = np.sum(step.context.prompt_mask, axis=1) + np.sum(step.context.response_mask, axis=1)
    if objective.whole_groups:
        indices = packing.balanced(np.sum(lengths.reshape(-1, step.group_size), axis=1), parts)
        cuts = [step.groups(index) for index in indices]
    else:
        cuts = [step.rows(index) for index in packing.balanced(lengths, parts)]
    size = len(cuts[0].mask)  # the most rows, and places, that so many responses need: one program for all objectives
    layouts = packing.stack([
        packing.pack(cut.context, cut.tokens, ROW_LENGTH, mask=cut.mask, rows=size, places=size * COLUMNS) for cut in cuts
    ])  # fmt: skip
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *cuts), layouts


def accumulated(objective, state, params, step, layouts):
    """(gradient, state) as the mean over packed parts, which the model sees one after the other."""
    parts = jax.tree.map(lambda leaf: leaf.reshape(len(layouts.index), -1, *leaf.shape[1:]), step)

    def add(carry, given):
        slopes, state = carry
        part, packed = given
        slope, aux = jax.grad(lambda p: objective(state, packed_outputs(p, packed), part), has_aux=True)(params)
        return (jax.tree.map(lambda total, one: total + one / len(layouts.index), slopes, slope), aux.state), None

    return jax.lax.scan(add, (jax.tree.map(jnp.zeros_like, params), state), (parts, layouts))[0]


def mesh():
    return Mesh(np.array(jax.devices()[:DEVICES]), ("devices",))


def sharded(tree):
    """The rows of every array divided among the devices."""
    return jax.block_until_ready(jax.device_put(tree, NamedSharding(mesh(), PartitionSpec("devices"))))


def replicated(tree):
    return jax.device_put(tree, NamedSharding(mesh(), PartitionSpec()))


@jax.jit
def by_devices(objective, state, params, step, layouts):
    """(gradient, state) of devices that hold some of the parts each, packed."""

    def of_device(objective, state, params, step, layouts):
        slope, after = accumulated(objective, state, params, step, layouts)
        return jax.lax.pmean(slope, "devices"), objective.merge(state, after, "devices")

    here, everywhere = PartitionSpec("devices"), PartitionSpec()
    # What is accumulated on each device is not to be summed over devices in every part, as it would be with check_vma.
    program = jax.shard_map(
        of_device, mesh=mesh(), in_specs=(everywhere, everywhere, everywhere, here, here), out_specs=everywhere,
        check_vma=False,
    )  # fmt: skip
    return program(objective, state, params, step, layouts)


def differences(objective):
    """By layout, the largest difference of the gradient and of the state from those of the whole, relative to each leaf.

    Each gradient is one program, from the parameters to the mean over devices.
    """
    state, params, batch = objective.init(), model().params, of_objective(objective)
    expected = whole(objective, state, params, batch)
    after, step = surveyed(objective, state, params, batch)
    step, layouts = in_parts(objective, step)
    found = {"sharded": whole(*replicated((objective, state, params)), sharded(batch))}
    jax.block_until_ready(found)  # what devices of one process exchange is kept apart from what else they do
    found["devices"] = by_devices(objective, after, params, step, layouts)
    size = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(expected[0]))
    return {layout: apart(each, expected) for layout, each in found.items()} | {"size": size}


@jax.jit
def said(params, batch):
    return outputs(params, batch, teaching())


@jax.jit
def pulled(params, batch, slope):
    """The gradient in the parameters, of one in what the policy says."""
    return jax.vjp(lambda p: outputs(p, batch, teaching()), params)[1](slope)[0]


@jax.jit
def said_of_parts(params, layouts):
    return jax.lax.map(lambda packed: packed_outputs(params, packed, teaching()), layouts)


@jax.jit
def pulled_from_parts(params, layouts, slope):
    return jax.vjp(lambda p: said_of_parts(p, layouts), params)[1](slope)[0]


@jax.jit
def prepared(objective, state, batch):
    return objective.prepare(state, batch)


@jax.jit
def at_once(objective, state, found, batch):
    """(gradient in what the policy says, state) of a step at once; (state, step) to be learned from in parts."""
    slope, aux = jax.grad(lambda found: objective(state, found, batch), has_aux=True)(found)
    step, looked_at = objective.survey(state, found, batch)
    return (slope, aux.state), (looked_at.state, step)


def in_turn(objective, state, found, parts):
    """(gradient in what the policy says of each part, of the mean over parts; state)."""

    def go_on(state, given):
        slope, aux = jax.grad(lambda found: objective(state, found, given[1]), has_aux=True)(given[0])
        return aux.state, jax.tree.map(lambda leaf: leaf / len(parts.mask), slope)

    after, slopes = jax.lax.scan(go_on, state, (found, parts))
    return slopes, after


compiled_in_turn = jax.jit(in_turn)


def on_devices(function, *specifications):
    """A program of `shard_map` over the mesh, with the specifications of its arguments and then of what it gives."""
    *arguments, results = specifications
    return jax.jit(jax.shard_map(function, mesh=mesh(), in_specs=tuple(arguments), out_specs=results, check_vma=False))


@functools.cache
def device_programs():
    """(what each device says of its parts, the mean of the gradients that they pull back, what it learns of its parts)."""
    here, everywhere = PartitionSpec("devices"), PartitionSpec()

    def pull(params, layouts, slope):
        return jax.lax.pmean(pulled_from_parts(params, layouts, slope), "devices")

    def learn(objective, state, found, parts):
        slopes, after = in_turn(objective, state, found, parts)
        return slopes, objective.merge(state, after, "devices")

    return (
        on_devices(said_of_parts, everywhere, here, here),
        on_devices(pull, everywhere, here, here, everywhere),
        on_devices(learn, everywhere, everywhere, here, here, (here, everywhere)),
    )


def differences_by_slopes(objective):
    """As `differences`, with the pass of the model and its way back compiled once for all objectives; on one device, too."""
    state, params, drawn = objective.init(), model().params, of_objective(objective)
    after, batch = prepared(objective, state, drawn)
    (slope, last), (looked_at, step) = at_once(objective, after, said(params, batch), batch)
    expected = pulled(params, batch, slope), last
    cut, layouts = in_parts(objective, step)
    parts = jax.tree.map(lambda leaf: leaf.reshape(PARTS, -1, *leaf.shape[1:]), cut)
    slopes, own = compiled_in_turn(objective, looked_at, said_of_parts(params, layouts), parts)
    found = {"parts": (pulled_from_parts(params, layouts, slopes), own)}
    jax.block_until_ready(found)
    here = replicated((objective, state, params))
    own, batch = prepared(*here[:2], sharded(drawn))
    (slope, own), _ = at_once(here[0], own, said(here[2], batch), batch)
    found["sharded"] = pulled(here[2], batch, slope), own
    jax.block_until_ready(found)
    say, pull, learn = device_programs()
    slopes, own = learn(objective, looked_at, say(params, layouts), parts)
    found["devices"] = pull(params, layouts, slopes), own
    size = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(expected[0]))
    return {layout: apart(each, expected) for layout, each in found.items()} | {"size": size}


def apart(found, expected):
    """The largest difference of any entry, relative to the largest of its leaf."""

    def of_leaf(one, other):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        assert np.isfinite(one).all() and np.isfinite(other).all()
        return float(np.max(np.abs(one - other), initial=0.0) / max(np.max(np.abs(other), initial=0.0), 1e-12))

    return max(jax.tree.leaves(jax.tree.map(of_leaf, found, expected)))


def of_preferences():
    """(pairs, log-probabilities of mismatched responses): one pair without a reference, one with a response of no token."""
    batch, draw = drawn()
    mask, reference = np.array(batch.mask), np.array(batch.logp_ref)
    reference[4, 0], mask[10] = np.nan, False
    context = dataclasses.replace(batch.context, response_mask=mask)
    other, other_reference = -draw.gamma(2.0, size=(2, ROWS, COLUMNS))
    found = PreferenceBatch(
        mask, reference, target=draw.uniform(0.5, 1.0, ROWS // 2), mismatched_mask=np.roll(mask, 2, axis=0),
        mismatched_logp_ref=other_reference, tokens=np.asarray(batch.tokens), context=context,
    )  # fmt: skip
    return jax.tree.map(jnp.asarray, (arrays(found), jnp.asarray(other, jnp.float32)))


def mean_loss(loss, logp, batch, other):
    values, aux = loss(logp, batch, other)
    return losses.masked_mean(values, aux.counts)


@jax.jit
def preferred(loss, params, batch, other):
    """The gradient of all pairs at once, not packed."""
    return jax.grad(lambda p: mean_loss(loss, outputs(p, batch).logp, batch, other))(params)


@jax.jit
def preferred_in_parts(loss, params, batch, other, parts, others, layouts):
    """The gradient as a sum over packed parts; of a loss of the whole batch, by its slope in the log-probabilities."""
    slopes = jax.grad(lambda logp: mean_loss(loss, logp, batch, other))(outputs(params, batch).logp)
    slopes = slopes.reshape(len(layouts.index), -1, COLUMNS)

    def add(carry, given):
        part, other, packed, slope = given

        def of_part(params):
            logp = packed_outputs(params, packed).logp
            if loss.whole_batch:
                return jnp.sum(logp * slope), 1.0 / len(layouts.index)
            values, aux = loss(logp, part, other)
            return jnp.sum(values), jnp.sum(aux.counts)

        slope, count = jax.grad(of_part, has_aux=True)(params)
        return jax.tree.map(jnp.add, carry, (slope, count)), None

    start = jax.tree.map(jnp.zeros_like, params), jnp.zeros(())
    (total, count), _ = jax.lax.scan(add, start, (parts, others, layouts, slopes))
    return jax.tree.map(lambda leaf: leaf / count, total)


@jax.jit
def preferred_by_devices(loss, params, batch, other, layouts):
    """The gradient of devices that hold some of the pairs each, packed."""

    def of_device(loss, params, batch, other, layouts):
        packed = jax.tree.map(lambda leaf: leaf[0], layouts)

        def total(params):
            logp = packed_outputs(params, packed).logp
            if loss.whole_batch:  # a few numbers of each response, of all devices
                gathered = [jax.lax.all_gather(each, "devices", tiled=True) for each in (logp, batch, other)]
                return mean_loss(loss, gathered[0], *gathered[1:])
            values, aux = loss(logp, batch, other)
            return jax.lax.psum(jnp.sum(values), "devices") / jax.lax.psum(jnp.sum(aux.counts), "devices")

        # With check_vma a gradient in what is the same everywhere is summed over devices as it stands.
        return jax.lax.pmean(jax.grad(lambda p: jax.lax.pmean(total(p), "devices"))(params), "devices")

    here, everywhere = PartitionSpec("devices"), PartitionSpec()
    program = jax.shard_map(
        of_device, mesh=mesh(), in_specs=(everywhere, everywhere, here, here, here), out_specs=everywhere
    )
    return program(loss, params, batch, other, layouts)


def preference_differences(name):
    """As `differences`, of a loss on preferences."""
    loss, params, (batch, other) = preferences.make(name), model().params, of_preferences()
    expected = preferred(loss, params, batch, other)
    host = jax.device_get(batch)

    def laid_out(parts):
        rows = np.arange(ROWS).reshape(parts, -1)
        cut = [jax.tree.map(lambda leaf, r=index: leaf[r], (host.context, host.tokens)) for index in rows]
        return packing.stack([packing.pack(*each, ROW_LENGTH) for each in cut])

    parts, others = jax.tree.map(lambda leaf: leaf.reshape(PARTS, -1, *leaf.shape[1:]), (batch, other))
    # One after the other: what devices of one process exchange is kept apart from what else they do.
    found = {"parts": preferred_in_parts(loss, params, batch, other, parts, others, laid_out(PARTS))}
    jax.block_until_ready((expected, found))
    found["sharded"] = preferred(*replicated((loss, params)), *sharded((batch, other)))
    jax.block_until_ready(found)
    found["devices"] = preferred_by_devices(loss, params, batch, other, laid_out(DEVICES))
    size = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(expected))
    return {layout: apart(each, expected) for layout, each in found.items()} | {"size": size}
