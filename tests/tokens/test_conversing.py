"""Conversations: who says what when, what it earns, and that training says of it what sampling said."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close

from maxent_rl.envs.adapters.tokens import make_tokens
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, ShapeError
from maxent_rl.networks.transformer import Transformer, TransformerConfig, unembedding
from maxent_rl.tokens.agent import TokenAgent
from maxent_rl.tokens.batch import Prompted
from maxent_rl.tokens.conversing import TOO_LONG, UNKNOWN, converse
from maxent_rl.tokens.endings import endings
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.tokens.sampling import score
from maxent_rl.tokens.tasks.conversation import ConversationTask, Reply
from maxent_rl.tokens.tasks.look_up import LookUp
from maxent_rl.tokens.tasks.writing import END_TOKEN
from maxent_rl.tokens.warm_start import WarmStart

TASK = LookUp()
CONFIG = TransformerConfig(TASK.vocabulary_size, 16, 2, 2, 1, 8, 32, qk_norm=True)
MODEL = Transformer(CONFIG)
ROWS = 16


@functools.cache
def prompts(seed=0):
    return TASK.prompts(jax.random.key(seed), ROWS)


@functools.cache
def params(seed=0):
    """Of a model that ends its turns often enough: the end token is likelier than others."""
    found = MODEL.init(jax.random.key(seed), *prompts())["params"]
    embedding = found["embed_tokens"]["embedding"]
    return found | {"embed_tokens": {"embedding": 3.0 * embedding}}


talk = jax.jit(
    lambda params, key, task=TASK, length=None: converse(MODEL, params, task, *prompts(), key, response_length=length),
    static_argnames=("task", "length"),
)


@functools.cache
def found():
    return jax.device_get(talk(params(), jax.random.key(1)))


def pieces(tokens, there, mask, turns):
    """[(turn, tokens of the model, tokens of the reply), ...] of one row, read by hand."""
    said = []
    for turn in range(TASK.max_turns):
        place = there & (turns == turn)
        if place.any():
            said.append((turn, tokens[place & mask], tokens[place & ~mask]))
    return said


@pytest.mark.slow
def test_every_turn_ends_as_it_must_and_is_replied_to_as_the_task_says():
    """Played again by hand, turn by turn: the same replies, rewards and end."""
    out = found()
    reply = jax.jit(TASK.reply)
    lengths = set()
    for row in range(ROWS):
        state, ended = TASK.begin(TASK.read(prompts()[0][row]), jax.random.key(0)), False
        turns = pieces(out.said.tokens[row], out.there[row], out.said.mask[row], out.turns[row])
        for turn, own, told in turns:
            lengths.add(len(own))
            assert not ended and (own[-1] == END_TOKEN or len(own) == TASK.turn_length)
            assert END_TOKEN not in own[:-1]
            line = np.pad(own, (0, TASK.turn_length - len(own)))
            heard = reply(state, jnp.asarray(line), jnp.asarray(len(own)))
            state, ended = heard.state, bool(heard.ended)
            assert out.turn_rewards[row, turn] == heard.reward
            last = ended or turn + 1 == TASK.max_turns
            np.testing.assert_array_equal(told, [] if last else heard.tokens[: int(heard.length)])
        assert out.ended[row] == ended and (ended or len(turns) == TASK.max_turns)
        assert not out.turn_rewards[row, len(turns) :].any()
    assert len(lengths) > 1  # rows were not in step


@pytest.mark.slow
def test_what_training_says_of_a_conversation_is_what_sampling_said():
    out, (asked, asked_mask) = found(), prompts()
    hidden = jax.jit(functools.partial(score, MODEL))(params(), asked, asked_mask, out.said.tokens, out.there)
    log_probs = jax.nn.log_softmax(np.asarray(hidden) @ np.asarray(unembedding(params(), CONFIG)))
    logp = np.take_along_axis(np.asarray(log_probs), out.said.tokens[..., None], -1)[..., 0]
    entropy = -np.sum(np.exp(log_probs) * log_probs, axis=-1)
    mask = out.said.mask
    np.testing.assert_allclose(out.said.logp[mask], logp[mask], atol=1e-4)
    np.testing.assert_allclose(out.said.entropy[mask], entropy[mask], atol=1e-4)
    assert not out.said.logp[~mask].any() and not out.said.entropy[~mask].any()
    assert np.all(out.there | ~mask) and not out.said.tokens[~out.there].any()


@pytest.mark.slow
def test_turns_that_began_in_the_same_state_are_told():
    """The same was said and heard before: read again from what is there."""

    @jax.jit
    def run(params, asked, key):
        return converse(MODEL, params, SHOWN, *asked, key, temperature=0.5, anchors=True)

    asked = [jnp.repeat(rows[:1], ROWS, axis=0) for rows in SHOWN.prompts(jax.random.key(3), 1)]
    told = jax.device_get(run(params(), asked, jax.random.key(1)))
    before, places = {}, np.argwhere(told.said.mask)
    for row, place in places:
        turn = told.turns[row, place]
        begin = np.flatnonzero(told.there[row] & (told.turns[row] == turn))[0]
        before.setdefault(tuple(told.said.tokens[row, :begin]), set()).add(told.anchors[row, place])
    assert all(len(anchors) == 1 for anchors in before.values())
    assert len({anchor for anchors in before.values() for anchor in anchors}) == len(before) > 5
    counts = [sum(np.array_equal(told.said.tokens[row, : len(key)], key) for row in range(ROWS)) for key in before]
    assert sorted(counts)[-2] > 1  # several came to the same state after a turn


SHOWN = LookUp(letters=2, operands=1)


@dataclasses.dataclass(frozen=True)
class Known(LookUp):
    """Says itself in which state a turn begins: in the same one as long as the book is the same."""

    def anchor(self, state, told):
        return state.book


@pytest.mark.slow
def test_many_conversations_of_six_turns_are_one_program_of_the_device():
    """256 of them: traced once, and lowered to what nobody on the host is asked by; a task may say what a state is."""
    task, traces = Known(operands=4), []
    assert task.max_turns == 6

    @jax.jit
    def run(params, asked, key):
        traces.append(1)
        return converse(MODEL, params, task, *asked, key, anchors=True)

    asked = task.prompts(jax.random.key(0), 256)
    text = run.lower(params(), asked, jax.random.key(0)).as_text()
    assert "callback" not in text and "infeed" not in text and "stablehlo.while" in text
    found = [jax.device_get(run(params(), asked, jax.random.key(seed))) for seed in (0, 1)]
    assert [each.turns.max() for each in found] == [5, 5] and len(traces) == 1
    books = [int(task.decode(prompt)[:4]) for prompt in asked[0]]
    np.testing.assert_array_equal(found[0].anchors[:, 0], books)
    np.testing.assert_array_equal(found[0].anchors[found[0].there], np.repeat(books, found[0].there.sum(axis=1)))


@pytest.mark.slow
def test_seeds_side_by_side_say_what_each_says_alone():
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), params(0), params(5))
    keys = jnp.stack([jax.random.key(1), jax.random.key(9)])
    together = jax.device_get(jax.jit(jax.vmap(lambda params, key: talk(params, key)))(both, keys))
    for name in ("there", "turns", "turn_rewards", "ended"):
        np.testing.assert_array_equal(getattr(together, name)[0], getattr(found(), name))
    np.testing.assert_array_equal(together.said.tokens[0], found().said.tokens)


@pytest.mark.slow
def test_a_conversation_beyond_its_room_is_cut_and_not_ended():
    short = jax.device_get(talk(params(), jax.random.key(1), length=5))
    long = found()
    np.testing.assert_array_equal(short.said.tokens, long.said.tokens[:, :5])
    went_on = long.there[:, 5]
    assert went_on.any() and not short.ended[went_on].any()
    np.testing.assert_array_equal(short.ended[~went_on], long.ended[~went_on])


@dataclasses.dataclass(frozen=True)
class Silent(LookUp):
    """Never says anything, and never ends."""

    def reply(self, state, said, length):
        return dataclasses.replace(
            LookUp.reply(self, state, said, length), length=jnp.zeros((), jnp.int32), ended=jnp.zeros((), bool)
        )

    def calls(self, said, length):  # turns that fill their room, as there are many
        return length == self.turn_length


@dataclasses.dataclass(frozen=True)
class Broken(LookUp):
    """To a whole question it says more than it may, and to anything else what is no token; answers it takes as LookUp does."""

    def reply(self, state, said, length):
        found, asks = LookUp.reply(self, state, said, length), self.calls(said, length)
        tokens = jnp.where(asks, found.tokens, self.vocabulary_size)
        return dataclasses.replace(found, tokens=tokens, length=jnp.where(asks, 7, 1))


@dataclasses.dataclass(frozen=True)
class Cramped(LookUp):
    """Has more room for replies than it says."""

    def reply(self, state, said, length):
        return dataclasses.replace(LookUp.reply(self, state, said, length), tokens=jnp.zeros(3, jnp.int32))


@pytest.mark.slow
def test_a_conversation_without_an_end_has_its_turns_and_no_more():
    task = Silent()
    out = jax.device_get(talk(params(), jax.random.key(2), task=task))
    assert not out.ended.any() and np.all(out.turns.max(axis=1) == task.max_turns - 1)
    assert np.all(out.there == out.said.mask) and not out.fault.any()
    lengths = [np.bincount(turns[own]) for turns, own in zip(out.turns, out.there, strict=True)]
    np.testing.assert_array_equal(out.calls, np.sum(np.array(lengths) == task.turn_length, axis=1))
    assert len(set(out.calls.tolist())) > 1
    assert endings(out, task)[3] == "Episode 3 was cut after turn 3, the last that there may be."
    short = jax.device_get(talk(params(), jax.random.key(1), length=5))
    sentences = endings(short, TASK)
    for row in range(ROWS):
        ended = f"Episode {row} was ended in turn {short.turns[row].max()}."
        cut = f"Episode {row} was cut in turn {short.turns[row].max()}, as there is room for 5 tokens."
        assert sentences[row] == (ended if short.ended[row] else cut)


@pytest.mark.slow
def test_a_reply_that_cannot_be_read_ends_its_own_conversation_without_a_reward():
    """Others go on, and to what was said before the first reply nothing changes."""
    task = Broken()
    out = jax.device_get(talk(params(), jax.random.key(1), task=task))
    sentences = endings(out, task)
    of_question = [bool(task.calls(*line)) for line in map(first_turn, range(ROWS))]
    answered = found().ended & (found().turns.max(axis=1) == 0)
    for row in range(ROWS):
        assert out.ended[row] and out.turns[row].max() == 0 and np.all(out.there[row] == out.said.mask[row])
        begins = f"Episode {row} was ended in turn 0"
        if answered[row]:
            assert out.fault[row] == 0 and np.isfinite(out.rewards[row]) and sentences[row] == f"{begins}."
        else:
            assert np.isnan(out.rewards[row]) and out.fault[row] == (TOO_LONG if of_question[row] else UNKNOWN)
            what = "too many tokens" if of_question[row] else "a token that is not among its 24"
            assert sentences[row] == f"{begins} without a reward: look-up replied with {what}."
    with pytest.raises(
        ShapeError, match=r"look-up must reply with tokens \[1\], padded .* in every turn of every episode"
    ):
        talk(params(), jax.random.key(1), task=Cramped())


def first_turn(row):
    """What a row says in its first turn [S], and how many tokens that are."""
    own = found().said.tokens[row][found().said.mask[row] & (found().turns[row] == 0)]
    return jnp.asarray(np.pad(own, (0, TASK.turn_length - len(own)))), jnp.asarray(len(own))


def test_no_response_to_a_task_that_replies_is_checked_by_itself():
    out, (asked, _) = found(), prompts()
    for check in (
        lambda: TASK.reward(asked, out.said.tokens, out.said.mask),
        lambda: TASK.answers(asked),
        lambda: TASK.candidates(TASK.read(asked[0])),
    ):
        with pytest.raises(IncompatibleEnvironmentError, match="look-up replies, and what a turn earns depends on"):
            check()
    # The final answer is what was said last, whatever was asked before.
    texts = {"!7": ["?a", "?b", "!7"], "same": ["!7"], "other": ["?a", "!8"], "none": ["?a", "!"]}
    tokens = np.zeros((4, 20), np.int32)
    for row, lines in enumerate(texts.values()):
        said = [token for line in lines for token in [*TASK.encode(line), END_TOKEN, 0]]
        said = said[:-2] if lines[-1] == "!" else said
        tokens[row, : len(said)] = said
    first, same, other, none = np.asarray(TASK.parsed(asked[:4], tokens, tokens > 0))
    assert first == same >= 0 and other >= 0 and other != first and none == -1


@pytest.mark.slow
def test_lines_are_spoken_as_the_model_would_be_replied_to():
    asked, _ = prompts(3)

    def spoken(prompt):
        problem = TASK.read(prompt)
        return TASK.spoken(jax.random.key(0), problem, *TASK.lines(None, problem))

    best = jax.jit(jax.vmap(spoken))(asked)
    assert np.all(best.ended) and np.all(np.sum(best.turn_rewards, axis=-1) == 1)
    some = TASK.transcripts(jax.random.key(0), asked)
    earned = np.sum(some.turn_rewards, axis=-1)
    assert np.all(some.ended) and 0 < earned.mean() < 1  # most guess
    assert np.all(some.there | ~some.mask) and np.all(np.asarray(some.tokens)[~np.asarray(some.there)] == 0)


def test_a_look_up_is_read_as_it_was_written_and_tells_nothing_of_other_books():
    asked, _ = prompts(4)
    again = jax.jit(jax.vmap(lambda prompt: TASK.write(TASK.read(prompt))))(asked)
    np.testing.assert_array_equal(again, asked)
    assert TASK.decode(asked[0])[4] == ":" and TASK.decode(asked[0])[-1] == "="
    values = np.asarray(jax.jit(jax.vmap(lambda book: TASK.value(book, jnp.asarray(2))))(jnp.arange(10_000)))
    assert np.all(np.abs(np.bincount(values, minlength=10) - 1_000) < 5 * 30)  # five deviations of a binomial


def test_what_cannot_be_talked_about_is_refused():
    with pytest.raises(ShapeError, match="room for at least one token, got response_length=0"):
        converse(MODEL, params(), TASK, *prompts(), jax.random.key(0), response_length=0)
    with pytest.raises(InvalidSettingError, match="temperature must be greater than 0"):
        converse(MODEL, params(), TASK, *prompts(), jax.random.key(0), temperature=0.0)
    assert issubclass(LookUp, ConversationTask) and dataclasses.fields(Reply)


@pytest.mark.slow
def test_an_agent_imitates_lines_and_learns_from_what_it_said_itself():
    agent = TokenAgent(
        objective="empg", group_size=4, num_minibatches=2, hidden_size=16, num_layers=1, num_heads=2, num_key_value_heads=1,
        intermediate_size=32,
    )  # fmt: skip
    spec = make_tokens("look-up").spec
    state = agent.init(jax.random.key(0), spec)
    batch, metrics = jax.jit(lambda state, key: agent.collect(state, TASK, key, ROWS))(state, jax.random.key(1))
    there = batch.context.response_mask
    assert np.all(there | ~batch.mask) and np.any(there & ~batch.mask) and np.any(batch.turns > 0)
    assert batch.tokens.shape == (ROWS, TASK.response_length) and np.isfinite(metrics["episode/return"])
    taught, shown = jax.jit(lambda state, key: agent.imitate(state, TASK, key, ROWS))(state, jax.random.key(2))
    after, found = jax.jit(lambda state, key: agent.reinforce(state, TASK, key, ROWS))(taught, jax.random.key(3))
    assert np.isfinite(shown["supervised/loss"]) and np.isfinite(found["policy/gradient_norm"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))


@pytest.mark.slow
def test_what_the_environment_said_is_read_and_never_learned():
    """Other replies change what the model says after them, and a loss counts its own tokens alone."""
    given = TASK.transcripts(jax.random.key(5), prompts()[0])
    answers = Prompted(*prompts(), given.there, said=given.mask)
    model = LanguageModel(CONFIG, params())

    @jax.jit
    def loss(tokens):
        return WarmStart().loss(model, answers, tokens)[0], model.statistics(answers, tokens).logp

    value, logp = loss(given.tokens)
    np.testing.assert_allclose(value, -np.mean(np.asarray(logp)[np.asarray(given.mask)]), rtol=1e-5)


def test_a_learner_hears_replies_as_the_model_did_that_spoke():
    """After `prepare`, which cleans what is masked, the policy that spoke has a ratio of 1; it is one that listens."""
    agent = TokenAgent(
        objective="empg",
        group_size=4,
        hidden_size=16,
        num_layers=1,
        num_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
    )
    state = agent.init(jax.random.key(0), make_tokens("look-up").spec)
    state = dataclasses.replace(state, params=jax.tree.map(lambda leaf: 3.0 * leaf, state.params))
    model = agent.model(state.params)
    batch, _ = jax.jit(lambda state, key: agent.collect(state, TASK, key, ROWS))(state, jax.random.key(1))
    objective = agent.build_objective(TASK.response_length, TASK.vocabulary_size)
    _, prepared = objective.prepare(state.objective, batch)
    found = jax.jit(model.statistics)(prepared.context, prepared.tokens)
    assert np.any(prepared.context.response_mask & ~prepared.mask)
    assert_close(np.where(prepared.mask, found.logp, 0), prepared.logp_old, rtol=1e-4)
    deaf = jnp.where(prepared.mask, prepared.tokens, 0)
    other = jax.jit(model.statistics)(prepared.context, deaf)
    assert np.max(np.abs(np.where(prepared.mask, other.logp - found.logp, 0))) > 0.1
