"""Syn-GRPO-style synthesis: a policy describes, behind its answers, further problems, and is rewarded where they divide it.

The equations of Syn-GRPO (arXiv 2511.19343) could not be confirmed and no code of it was found: what follows is a proposed
form that has its name for what it is after. In each iteration, one description is picked among the well-formed ones of each
group and rendered around the unchanged core of the problem; the new problem waits in a ring, is posed in a later iteration,
and when its group has been checked, the tokens of the description are credited with how divided the responses were
(`diversity`), less a moving baseline. Their log-probabilities are those of the time when they were written; they are
clipped as all others.

Safeguards: what a rendered problem asks for is read from it by an oracle, and it is dropped where that differs from its
core's; it is dropped where none of its responses was right (`solvable`), where it is too old, and where it is a held-out
problem.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.settings import Count, Fraction, NonNegative
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.prompts.ring import Ring
from maxent_rl.tokens.prompts.source import Answer, Posed, PromptSource
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.writing import PAD_TOKEN
from maxent_rl.types import Array, Metrics, PyTree, Spec


@runtime_checkable
class Describes(Protocol):
    """A task whose responses may describe other problems with the same core; see `tasks.Contexts` for what they promise."""

    def apart(self, responses: Array, mask: Array) -> Array:
        """[N, T] bool: the tokens of descriptions."""

    def describe(self, responses: Array, mask: Array) -> tuple[Array, Array]:
        """(descriptions [N, C], well formed [N])."""

    def descriptions(self, key: Array, count: int) -> Array:
        """[count, C] drawn uniformly."""

    def render(self, prompts: Array, descriptions: Array) -> Array:
        """[N, Q] the cores of prompts in other contexts."""

    def labels(self, prompts: Array) -> Array:
        """[N] what prompts ask for."""


@struct.dataclass
class Request:
    """A problem that was described, and who described it.

    Attributes:
      problem: [Q] the rendered prompt.
      parent: [Q] the prompt whose response has the description.
      tokens, mask, logp, entropy: [T] that response, and what the policy that drew it said of it.
    """

    problem: Array
    parent: Array
    tokens: Array
    mask: Array
    logp: Array
    entropy: Array


@struct.dataclass
class SynthesisState:
    """What a synthesis is.

    Attributes:
      ring: of `Request`.
      step: [] int32 iterations so far.
      baseline: [] the moving level of diversity.
      begun: [] bool: whether there is such a level yet.
    """

    ring: Ring
    step: Array
    baseline: Array
    begun: Array


def diversity(rewards: Array) -> Array:
    """How divided the responses to a prompt are: the standard deviation of their rewards, constant.

    Args:
      rewards: [..., G], from 0 to 1.

    Returns:
      [...] from 0 to 1/2, with ddof 0; 0 where all rewards are equal. It is what GRPO divides by, but for the correction.
    """
    rewards = jax.lax.stop_gradient(losses.at_least_single(rewards))
    below = rewards - jnp.max(rewards, axis=-1, keepdims=True)
    centred = losses.without_rounding(below - jnp.mean(below, axis=-1, keepdims=True), jnp.max(jnp.abs(rewards)))
    return jnp.sqrt(jnp.mean(centred**2, axis=-1))


def smoothed_rewards(baseline: Array, measured: Array, counts: Array, decay: Any) -> tuple[Array, Array]:
    """What each description is rewarded with, in the order in which they were measured.

    Args:
      baseline: [] the level before.
      measured: [K] the diversity of each problem.
      counts: [K] bool: which there are.
      decay: [] rho, of the level.

    Returns:
      (level after, rewards [K]: the diversity above the level before it, 0 where there is none).
    """

    def one(level: Array, each: tuple[Array, Array]) -> tuple[Array, Array]:
        value, is_there = each
        return jnp.where(is_there, decay * level + (1 - decay) * value, level), jnp.where(is_there, value - level, 0.0)

    after, rewards = jax.lax.scan(one, baseline, (measured, counts))
    return after, rewards


@dataclasses.dataclass(frozen=True)
class SynthesisPrompts(PromptSource):
    """A share of the prompts was described by the policy itself; the rest, and what is not there, is the task's.

    The objective must credit descriptions apart from answers: `syn_grpo_style`, whose `span_weight` of 0 leaves contexts that
    nobody is rewarded for. A task whose responses describe no problems is refused.
    """

    name: ClassVar[str] = "synthesis"
    credits_apart: ClassVar[bool] = True

    share: Fraction = 0.5
    """q_new: share of the prompts of an iteration that are synthesised, rounded."""
    capacity: Count = 512
    """Descriptions that wait at most; the oldest go first."""
    staleness: NonNegative = 20
    """kappa: iterations after which a description that was not posed is dropped."""
    latency: NonNegative = 1
    """Iterations that rendering takes: before, a description cannot be posed; never where it is more than the staleness."""
    decay: Fraction = 0.9
    """rho: of the moving level of diversity."""
    credit: Literal["delayed", "immediate"] = "delayed"
    """When a description is credited: when its problem was posed, or at once, all of a group against each other, by as many
    responses to each as a group has, for the share of the prompts."""
    describe: Literal["policy", "random"] = "policy"
    """Who describes: the policy, or nobody, at random: contexts that nobody learns."""
    solvable: bool = True
    """Drop problems to which no response was right."""

    def check(self, task: TokenTask[Any]) -> None:
        """Refuses tasks whose responses describe no problems.

        Raises:
          IncompatibleEnvironmentError: it is one.
          InvalidSettingError: settings of credit where nobody is credited.
        """
        if not isinstance(task, Describes):
            raise IncompatibleEnvironmentError(
                f"--prompts synthesis needs a task whose responses describe further problems, such as tokens/contexts; "
                f"{task.name} is none."
            )
        if self.describe == "random" and self.credit == "immediate":
            raise InvalidSettingError(
                "Descriptions drawn at random are nobody's to credit: leave out credit=immediate."
            )

    def init(self, key: Array, spec: Spec) -> SynthesisState:
        """Nothing described yet."""
        prompt, tokens = (jnp.zeros(shape, jnp.int32) for shape in (spec.observation_shape, spec.action_shape))
        number, mask = (jnp.zeros(spec.action_shape, kind) for kind in (jnp.float32, jnp.bool_))
        ring = Ring.create(self.capacity, Request(prompt, prompt, tokens, mask, number, number))
        return SynthesisState(ring, jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.zeros((), bool))

    def draw(self, task: TokenTask[Any], state: SynthesisState, key: Array, count: int) -> tuple[SynthesisState, Posed]:
        """The oldest that are ready, up to the share; the others are those that the task draws with the key."""
        fresh, _ = task.prompts(key, count)
        ring = state.ring.without_old(state.step, self.staleness)
        number = round(count * self.share)
        places, there = ring.oldest(number, state.step - ring.steps >= self.latency)
        requests = ring.at(places)
        problems = fresh.at[:number].set(jnp.where(there[:, None], requests.problem, fresh[:number]))
        request = jax.tree.map(lambda leaf: jnp.pad(leaf, ((0, count - number), *[(0, 0)] * (leaf.ndim - 1))), requests)
        notes = {"request": request, "new": jnp.pad(there, (0, count - number))}
        state = dataclasses.replace(state, ring=ring.without(places, there))
        return state, Posed(problems, problems != PAD_TOKEN, None, notes)

    def feedback(
        self,
        task: TokenTask[Any],
        state: SynthesisState,
        key: Array,
        batch: TokenBatch,
        own: Array,
        notes: PyTree,
        answer: Answer,
    ) -> tuple[SynthesisState, TokenBatch, Metrics]:
        """Credits the descriptions whose problems came back, and takes in new ones."""
        pick_key, try_key = jax.random.split(key)
        size, new = batch.group_size, own & notes["new"]
        rewards = batch.outcomes[: own.shape[0] * size].reshape(-1, size)
        divided, right = diversity(rewards), jnp.max(rewards, axis=-1) > 0
        counts = new & right if self.solvable else new
        level = jnp.where(state.begun, state.baseline, _mean(divided, own))
        after, credited = smoothed_rewards(level, divided, counts, self.decay)
        state = dataclasses.replace(state, baseline=after, begun=jnp.ones((), bool))
        metrics = {
            "prompts/diversity": _mean(divided, own),
            "prompts/diversity_new": _mean(divided, new),
            "prompts/no_diversity": _mean(divided == 0.0, own),
            "prompts/new": _mean(new, own),
            "prompts/unsolved": _mean(~right, new),
            "prompts/level": after,
        }
        state, found = self._taken_in(cast(Any, task), state, pick_key, batch, own)
        metrics |= found
        if self.describe == "random" or batch.span_advantages is None:
            return state, batch, metrics
        if self.credit == "immediate":
            return state, self._tried(cast(Any, task), try_key, batch, own, answer), metrics
        return state, self._with_credited(cast(Any, task), batch, notes["request"], counts, credited), metrics

    def _taken_in(
        self, task: Any, state: SynthesisState, key: Array, batch: TokenBatch, own: Array
    ) -> tuple[SynthesisState, Metrics]:
        """With one new description of each group, where it has a well-formed one."""
        size, groups = batch.group_size, own.shape[0]
        tokens, mask = jnp.asarray(batch.tokens), batch.mask
        parents = _problems(task, batch)
        chosen, random_key = jax.random.split(key)
        described, good = (rows[: groups * size] for rows in task.describe(tokens, mask))
        score = jnp.where(good, jax.random.uniform(chosen, good.shape), -1.0).reshape(groups, size)
        row = jnp.argmax(score, axis=-1) + size * jnp.arange(groups)
        exists = jnp.max(score, axis=-1) >= 0 if self.describe == "policy" else jnp.ones(groups, bool)
        description = described[row] if self.describe == "policy" else task.descriptions(random_key, groups)
        problems = task.render(parents[row], description)
        same = task.labels(problems) == task.labels(parents[row])
        enters = own & exists & same & ~task.is_held_out(problems)
        rows = (parents, tokens, mask, batch.logp_old, jnp.asarray(batch.entropy_old))
        request = Request(problems, *(each[row] for each in rows))
        ring = state.ring.pushed(request, enters, state.step)
        metrics = {
            "prompts/well_formed": _mean(good, jnp.repeat(own, size)),
            "prompts/other_label": _mean(~same, own & exists),
            "prompts/described_difficulty": _mean(task.difficulties(problems), enters),
            "prompts/waiting": jnp.mean(ring.filled.astype(jnp.float32)),
        }
        return dataclasses.replace(state, ring=ring, step=state.step + 1), metrics

    def _with_credited(
        self, task: Any, batch: TokenBatch, request: Request, counts: Array, credited: Array
    ) -> TokenBatch:
        """The batch, and behind it the descriptions that are credited now: rows of those tokens alone."""
        size = batch.group_size
        number = -(-round(counts.shape[0] * self.share) // size) * size  # whole groups
        if number == 0:
            return batch
        places = jnp.argsort(~counts)[:number]
        places = jnp.pad(places, (0, number - places.shape[0]))
        there = counts[places] & (jnp.arange(number) < counts.shape[0])
        found, context = jax.tree.map(lambda leaf: leaf[places], request), cast(Any, batch.context)
        span = task.apart(found.tokens, found.mask) & there[:, None]
        width = context.prompts.shape[1]
        prompts = jnp.pad(found.parent, ((0, 0), (width - found.parent.shape[1], 0)))
        behind: TokenBatch = jax.tree.map(lambda leaf: leaf[jnp.arange(number) % leaf.shape[0]], batch)
        behind = dataclasses.replace(
            behind,
            logp_old=found.logp,
            mask=span,
            rewards=jnp.zeros(number),  # equal in their groups: as answers they teach nothing
            tokens=found.tokens,
            entropy_old=found.entropy,
            truncated=jnp.zeros(number, bool),
            span=span,
            span_advantages=jnp.where(there, credited[places], 0.0),
            context=dataclasses.replace(
                cast(Any, behind.context), prompts=prompts, prompt_mask=prompts != PAD_TOKEN, response_mask=found.mask
            ),
        )
        joined: TokenBatch = jax.tree.map(lambda first, second: jnp.concatenate([first, second]), batch, behind)
        return joined

    def _tried(self, task: Any, key: Array, batch: TokenBatch, own: Array, answer: Answer) -> TokenBatch:
        """The batch, with the descriptions of the first prompts credited by how they divide a group of responses each."""
        size = batch.group_size
        groups = round(own.shape[0] * self.share)
        rows = groups * size
        if rows == 0:
            return batch
        described, good = (each[:rows] for each in task.describe(jnp.asarray(batch.tokens), batch.mask))
        parents = _problems(task, batch)[:rows]
        problems = task.render(parents, described)
        found = answer(key, Posed(problems, problems != PAD_TOKEN, None, None))
        rewards = found.outcomes.reshape(rows, size)
        counts = good & jnp.repeat(own[:groups], size) & (task.labels(problems) == task.labels(parents))
        if self.solvable:
            counts = counts & (jnp.max(rewards, axis=-1) > 0)
        divided = jnp.where(counts, diversity(rewards), 0.0).reshape(groups, size)
        advantages = losses.group_advantages(divided, "group", 1e-6, False, counts.reshape(groups, size))
        before = jnp.asarray(batch.span_advantages)
        return dataclasses.replace(batch, span_advantages=before.at[:rows].set(advantages.reshape(-1)))


def _problems(task: TokenTask[Any], batch: TokenBatch) -> Array:
    """[N, Q] the task's own prompts of a batch."""
    context: Any = batch.context
    problems: Array = context.checked[:, -task.prompt_length :]
    return problems


def _mean(values: Array, counts: Array) -> Array:
    """[] over those that count; 0 where none does."""
    return jnp.sum(jnp.where(counts, values, 0.0)) / jnp.maximum(jnp.sum(counts), 1)
