"""A language model as an agent: it answers prompts, is rewarded by an exact checker, and learns by any objective.

`reinforce` is one iteration: draw groups of responses, check them, prepare the batch, and take some optimiser steps on
it. `imitate` is one step of supervised learning from right answers, for a warm start. Both are pure functions of the state,
so seeds are a `vmap` and many iterations a loop on the device.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.networks.transformer import TransformerConfig
from maxent_rl.settings import Count, Fraction, NonNegative, Positive, Settings, Weight, setting, static
from maxent_rl.tokens import objectives
from maxent_rl.tokens.batch import Prompted, TokenBatch, TokenOutputs
from maxent_rl.tokens.critic import WITH_CRITIC, CriticState, TokenCritic, Trunk, has_critic, held
from maxent_rl.tokens.model import LanguageModel, small_config
from maxent_rl.tokens.prompts import PromptSource, make_source
from maxent_rl.tokens.rehearsal import Rehearsal
from maxent_rl.tokens.replay import ReplayState, check_replay
from maxent_rl.tokens.rollouts import Groups, examine, gather
from maxent_rl.tokens.tasks import TASKS, make_task
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.conversation import ConversationTask
from maxent_rl.tokens.teachers import Teacher, TeacherState, check_first, first_params
from maxent_rl.tokens.teachers.rules import AVERAGED, COMPARED, TAUGHT, has_reference, has_teacher
from maxent_rl.tokens.warm_start import WarmStart, WarmStartObjective, hinted
from maxent_rl.types import Array, Learns, Metrics, PyTree, Spec
from maxent_rl.usage import above, not_given, unless, when

_WARM = above(warm_start_steps=0)
_HARDEST = _WARM & when(warm_start_objective="entropy-sft")
_CRITIC = when(objective=WITH_CRITIC)
_FURTHER = 2**20  # beyond what keys are split into
_PROMPTS_STREAM = 0x50A3C7E5  # likewise
_REPLAY_STREAM = 0x5EA12E91  # likewise


@struct.dataclass
class TokenState:
    """All that learning changes, of one seed.

    Attributes:
      params: of the transformer.
      optimizer: of Adam.
      reference: the parameters after the warm start, or None where the objective has no use for them.
      objective: state of the objective.
      warm: [] bool: whether the warm start still lasts.
      updates: [] int32 optimiser steps taken, those of the warm start included.
      response_length: the most tokens that are said at once: T of a response, S of a turn.
      teacher: of those that are taught, or whose reference a teacher is.
      critic: what learns beside the policy, where the objective has a critic.
      prompts: state of the source of prompts, or None where it has none.
      replay: responses of earlier iterations, where the objective wants to learn from them again.
    """

    params: PyTree
    optimizer: PyTree
    reference: PyTree | None
    objective: PyTree
    warm: Array | None
    updates: Array | None
    response_length: int = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    teacher: TeacherState | None = None
    critic: CriticState | None = None
    prompts: PyTree = None
    replay: ReplayState | None = None


@struct.dataclass
class TokenAgent(Settings):
    """A small language model of the Llama layout, trained by any of `objectives.names()`."""

    learns: ClassVar[Learns] = "task"

    objective: str = static("grpo")
    """Name of the objective: grpo, dapo, clip_cov, ... (maxent_rl.tokens.objectives)."""
    objective_settings: tuple[str, ...] | None = static(None)
    """Hyper-parameters of the objective in place of its defaults, as NAME=VALUE, or STAGE.NAME=VALUE where several have it."""
    prompts: str = static("task")
    """Where prompts come from: task, templates, pool, curriculum, mixture, synthesis (maxent_rl.tokens.prompts)."""
    prompt_settings: tuple[str, ...] | None = static(None, used_when=unless(prompts="task"))
    """Settings of the source of prompts in place of its defaults, as NAME=VALUE (docs/tokens.md, Where prompts come from)."""
    group_size: Count = static(16)
    """Responses to each prompt; --num-envs is the number of all responses of an iteration."""
    num_minibatches: Count = static(4)
    """Parts into which the responses (or right answers) of an iteration are divided, each for one optimiser step."""
    num_epochs: Count = static(1)
    """Times that an iteration goes over its responses."""
    sampling_rounds: Count = static(1)
    """Most rounds of responses in an iteration; those after the first, which count as no environment steps, replace groups
    of equal rewards (dynamic sampling)."""
    learning_rate: Positive = 1e-4
    """Step size of Adam."""
    weight_decay: Weight = 0.0
    """Decay of the parameters, times the learning rate."""
    max_gradient_norm: Positive = 1.0
    """Longer gradients are shortened to this."""
    temperature: Positive = 1.0
    """What logits are divided by, in sampling and in learning alike."""
    top_p: Fraction = 1.0
    """Sample only from the likeliest tokens that together have this probability."""
    warm_start_steps: NonNegative = 400_000
    """Most right answers that are imitated before reinforcement begins; they count as environment steps."""
    warm_start_loss: Weight = setting(0.5, used_when=_WARM)
    """The warm start ends when the loss of right answers has come down to this, in nats per token (with that of prompts, where
    it learns these too)."""
    warm_start_prompts: bool = static(False, used_when=_WARM)
    """The warm start learns prompts too, so that the policy knows how likely one is (progrpo)."""
    warm_start_learning_rate: Positive = setting(1e-3, used_when=_WARM)
    """Step size of Adam in the warm start."""
    warm_start_objective: WarmStartObjective = static("likelihood", used_when=_WARM)
    """What the warm start learns of right answers: all tokens (likelihood), or the hardest alone (entropy-sft, Light-IF)."""
    warm_start_token_share: Fraction = static(0.8, used_when=_HARDEST)
    """Share of the tokens that entropy-sft learns."""
    warm_start_entropy_weight: Weight = setting(0.8, used_when=_HARDEST)
    """How much of the policy's entropy entropy-sft takes off a token's loss before it ranks them."""
    warm_start_hints: Fraction = static(0.0, used_when=_WARM)
    """Share of right answers before whose prompt the answer stands, so that the policy learns to use what it is told."""
    initial_policy: str | None = static(None)
    """Folder of a run whose policy is the first one; RUN:SEED for another seed than its first."""
    teacher_kind: Literal["ema", "frozen", "self"] | None = static(
        None, used_when=TAUGHT & not_given("teacher_policies")
    )
    """Who teaches, or, where nobody is taught, is the reference: an average over the policy's steps (ema), the policy as
    reinforcement began (frozen), or the policy itself (self). None for what the objective wants."""
    teacher_rate: Fraction = setting(0.05, used_when=AVERAGED)
    """Share of the way to the policy that the average goes after each optimiser step."""
    teacher_policies: tuple[str, ...] | None = static(None, used_when=TAUGHT)
    """Folders of runs whose policies are to teach, in place of this one's: several are averaged (a soup). RUN:SEED for another
    seed than the first."""
    teacher_hint: objectives.Hint | None = static(None, used_when=COMPARED)
    """What the teacher is told before the prompt: nothing (none), a right response of the group (sibling), or a right answer
    (answer). None for what the objective wants."""
    critic_trunk: Trunk = static("own", used_when=_CRITIC)
    """What the critic stands on: a transformer of its own, which begins as the policy after its warm start, or the policy's,
    through which both then learn."""
    critic_learning_rate: Positive = setting(1e-3, used_when=_CRITIC)
    """Step size of the critic's Adam."""
    critic_warm_start_steps: NonNegative = setting(0, used_when=_CRITIC)
    """Responses from which the critic learns alone, after the warm start and before the policy learns; they count as
    environment steps."""
    num_layers: Count = static(2)
    """Blocks of the transformer."""
    hidden_size: Count = static(64)
    """Width of the transformer."""
    num_heads: Count = static(4)
    """Heads of attention."""
    num_key_value_heads: Count = static(2)
    """Heads of keys and values, each shared by as many heads of attention."""
    intermediate_size: Count = static(128)
    """Width of each block's feed-forward layer."""
    eval_samples: Count = static(8)
    """Responses to each prompt in an evaluation: k of pass@k."""

    run_defaults: ClassVar[dict[str, Any]] = {
        "env": "tokens/modular-addition",
        "num_envs": 1_024,
        "total_steps": 2_000_000,
        "eval_every": 51_200,
        "eval_episodes": 512,
        "checkpoint_every": 102_400,
        "log_every": 20_480,
    }

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments that are no token tasks, and settings that do not fit together.

        Raises:
          IncompatibleEnvironmentError: not a task of tokens.
          InvalidSettingError: sizes that do not divide, or an objective's setting that cannot be read.
          UnknownNameError: no such objective, or no such setting of it.
        """
        if spec.num_actions is None or len(spec.action_shape) != 1:
            raise IncompatibleEnvironmentError(f"{env} is no task of tokens: use one such as tokens/modular-addition.")
        objective = self.build_objective(spec.action_shape[0], spec.num_actions)
        config = self.build_config(spec.num_actions)
        teacher = self.build_teacher(objective)
        if teacher is not None:
            teacher.check(env, spec.num_actions)
        if self.initial_policy is not None:
            check_first(self.initial_policy, config, env)
        if spec.num_envs % self.group_size or spec.num_envs % self.num_minibatches:
            raise InvalidSettingError(
                f"--num-envs {spec.num_envs}, the responses of an iteration, must be a multiple of --group-size "
                f"{self.group_size} and of --num-minibatches {self.num_minibatches}."
            )
        self._check_prompts(objective, env)
        self._check_replay(objective, env, spec.num_envs)
        groups = spec.num_envs // self.group_size
        if objective.whole_groups and groups % self.num_minibatches:
            raise InvalidSettingError(
                f"--objective {self.objective} compares the responses of a group at every step, so the {groups} groups of "
                f"--group-size {self.group_size} must be a multiple of --num-minibatches {self.num_minibatches}."
            )

    def init(self, key: Array, spec: Spec) -> TokenState:
        """Builds the state of one seed."""
        assert spec.num_actions is not None
        config = self.build_config(spec.num_actions)
        params_key, objective_key = jax.random.split(key)
        prompts_key = jax.random.fold_in(key, _PROMPTS_STREAM)
        params = LanguageModel.create(config, params_key).params
        if self.initial_policy is not None:
            params = first_params(self.initial_policy, params)
        objective = self.build_objective(spec.action_shape[0], spec.num_actions)
        teacher = self.build_teacher(objective)
        refers = has_reference(objective) and not (teacher is not None and not has_teacher(objective))
        return TokenState(
            params=params,
            optimizer=self._adam().init(params),
            reference=params if refers else None,
            objective=objective.init(objective_key),
            warm=jnp.asarray(self.warm_start_steps, jnp.int32) > 0,
            updates=jnp.zeros((), jnp.int32),
            response_length=spec.action_shape[0],
            teacher=None if teacher is None else teacher.init(LanguageModel(config, params)),
            critic=self._new_critic(params) if has_critic(objective.stages) else None,
            prompts=self.build_prompts().init(prompts_key, spec),
            replay=_new_replay(objective, jax.random.fold_in(key, _REPLAY_STREAM), spec),
        )

    def act(self, state: TokenState, observation: Array, key: Array) -> Array:
        """Draws responses: prompts [..., P] to tokens [..., T], 0 after the end."""
        return self._answer(state, observation, key)

    def mode(self, state: TokenState, observation: Array) -> Array:
        """Takes the likeliest token at each place: prompts [..., P] to tokens [..., T]."""
        return self._answer(state, observation, None)

    def imitate(
        self, state: TokenState, task: TokenTask[Any], key: Array, count: int, step: Array | int = 0
    ) -> tuple[TokenState, Metrics]:
        """Learns from `count` right answers, one optimiser step for each minibatch: iteration number `step`.

        When the warm start ends with it, this policy becomes the reference, and Adam starts anew.
        """
        prompt_key, answer_key = jax.random.split(key)
        prompted, tokens = self.build_prompts().demonstrations(task, prompt_key, answer_key, count)
        if self.warm_start_hints > 0:
            prompted = hinted(jax.random.fold_in(key, _FURTHER), prompted, tokens, self.warm_start_hints)
        warm_start = WarmStart(
            self.warm_start_objective,
            self.warm_start_token_share,
            self.warm_start_entropy_weight,
            self.warm_start_prompts,
        )

        def learn(carry: TokenState, part: tuple[Prompted, Array]) -> tuple[TokenState, Array]:
            def loss(params: PyTree) -> tuple[Array, Array]:
                return warm_start.loss(self.model(params), *part)

            slope, value = jax.grad(loss, has_aux=True)(carry.params)
            return self._step(carry, slope, self.warm_start_learning_rate), value

        parts = jax.tree.map(lambda rows: rows.reshape(self.num_minibatches, -1, *rows.shape[1:]), (prompted, tokens))
        state, values = jax.lax.scan(learn, state, parts)
        value = jnp.mean(values)
        goes_on = (value > self.warm_start_loss) & ((step + 1) * count < self.warm_start_steps)
        state = dataclasses.replace(state, warm=goes_on)
        return jax.lax.cond(goes_on, lambda same: same, self._begin, state), {"supervised/loss": value}

    def reinforce(self, state: TokenState, task: TokenTask[Any], key: Array, count: int) -> tuple[TokenState, Metrics]:
        """Draws `count` responses and learns from them: one iteration.

        While its critic learns alone, the policy and its objective's state stay as they are.
        """
        collect_key, learn_key = jax.random.split(key)
        objective = self.build_objective(_room(state, task), _vocabulary_size(state.params))
        heard, batch, metrics = self._gather(state, task, collect_key, count)
        before = state.objective
        own, batch = objective.prepare(before, batch)
        state = dataclasses.replace(state, objective=own, prompts=heard)
        rows = batch.mask.shape[0]  # more than `count` where an objective adds some; what fills no part is left out
        cut, size = (batch.groups, rows // batch.group_size) if objective.whole_groups else (batch.rows, rows)
        orders = jax.vmap(lambda one: jax.random.permutation(one, size))(jax.random.split(learn_key, self.num_epochs))
        orders = orders[:, : size - size % self.num_minibatches].reshape(self.num_epochs * self.num_minibatches, -1)

        beside = orders.shape[1] * (batch.group_size if objective.whole_groups else 1)
        replay_key = jax.random.fold_in(learn_key, _REPLAY_STREAM)
        state, rehearsal, remembered = self._rehearse(state, objective, batch, replay_key, count, beside)
        joint = None if rehearsal is None or rehearsal.consecutive else rehearsal

        def learn(carry: TokenState, given: tuple[Array, Array | None]) -> tuple[TokenState, Metrics]:
            # A minibatch has an optimiser step of its own and divides by its own counts, as in verl: steps are of the same
            # size, whichever responses fell into them, and what chooses among tokens chooses among those of the step.
            index, again = given
            return self._learn(carry, objective, cut(index).as_step(), None if joint is None else joint.part(again))

        state, found = jax.lax.scan(learn, state, (orders, None if joint is None else joint.orders))
        if rehearsal is not None:
            state, more = self._remember(state, objective, batch, rehearsal, count)
            found |= more
        if state.critic is not None:
            own = held(state.critic, before, state.objective)
            state = dataclasses.replace(state, objective=own, critic=state.critic.seen(count))
        return state, metrics | remembered | jax.tree.map(jnp.mean, found)

    def collect(self, state: TokenState, task: TokenTask[Any], key: Array, count: int) -> tuple[TokenBatch, Metrics]:
        """Draws the `count` responses of an iteration, with all that its objective asks of them."""
        return self._gather(state, task, key, count)[1:]

    def _gather(
        self, state: TokenState, task: TokenTask[Any], key: Array, count: int
    ) -> tuple[PyTree, TokenBatch, Metrics]:
        objective = self.build_objective(_room(state, task), _vocabulary_size(state.params))
        groups = Groups(self.group_size, _room(state, task), self.sampling_rounds)
        model, teacher = self.model(state.params), self.build_teacher(objective)
        reference = None if state.reference is None else self.model(state.reference)
        if reference is None and teacher is not None and has_reference(objective):
            reference = teacher.model(cast(TeacherState, state.teacher), model)
        critic = None if state.critic is None else TokenCritic(model.config, state.critic.params).beside(model)
        return gather(
            model,
            task,
            key,
            count,
            groups,
            objective,
            state.objective,
            reference,
            self.teacher_hint,
            critic,
            self.build_prompts(),
            state.prompts,
        )

    def examine(self, state: TokenState, task: TokenTask[Any], key: Array, prompts: int) -> dict[str, Array]:
        """Answers held-out prompts: `rollouts.examine`."""
        return examine(self.model(state.params), task, key, prompts, _room(state, task), self.eval_samples)

    def model(self, params: PyTree) -> LanguageModel:
        """The language model with these parameters."""
        return LanguageModel(self.build_config(_vocabulary_size(params)), params, self.temperature, self.top_p)

    def build_objective(
        self, response_length: int | None = None, vocabulary_size: int | None = None
    ) -> objectives.Objective:
        """The objective with its settings.

        The limit of a penalty near the length limit is the responses' own, unless it is given. Without settings there is no
        such penalty: responses have no more room than the longest right answer needs, which it would take from. A sum over a
        constant length is one over T.

        Args:
          response_length: T; None for the objective as it is without a task.
          vocabulary_size: V, for objectives that have it as a setting; None for none.

        Raises:
          InvalidSettingError: a setting that is not NAME=VALUE, or a value out of its bounds.
          UnknownNameError: no such objective, or no such setting of it.
        """
        settings = objectives.from_words(self.objective, self.objective_settings or ())
        known, given = objectives.settings(self.objective), self._named_settings()
        penalty = any(name.startswith("overlong_") for name in settings)
        if response_length and penalty and not given & {"overlong_limit", "limit"}:
            settings["overlong_limit"] = response_length
        if response_length and "aggregation_length" in known and "aggregation_length" not in given:
            settings["aggregation_length"] = response_length
        if vocabulary_size and "vocabulary_size" in known and "vocabulary_size" not in given:
            settings["vocabulary_size"] = vocabulary_size
        return objectives.make(self.objective, **settings)

    def build_prompts(self) -> PromptSource:
        """The source of prompts with its settings.

        Raises:
          InvalidSettingError: a setting that is not NAME=VALUE, or a value that cannot be.
          UnknownNameError: no such source, or no such setting of it.
        """
        return make_source(self.prompts, self.prompt_settings or ())

    def build_teacher(self, objective: objectives.Objective) -> Teacher | None:
        """Who teaches with an objective; None where nobody is taught and the reference is the policy as it began."""
        wanted = objective.teaching(objective.init()).teacher if has_teacher(objective) else None
        kind = "policies" if self.teacher_policies else self.teacher_kind or wanted
        if kind is None or not (wanted or has_reference(objective)):
            return None
        return Teacher(kind, self.teacher_rate, self.teacher_policies or ())

    def _named_settings(self) -> set[str]:
        """The settings of the objective that are given, without the names of stages."""
        settings = objectives.from_words(self.objective, self.objective_settings or ())
        return {name.rpartition(".")[2] for name in settings}

    def _check_prompts(self, objective: objectives.Objective, env: str) -> None:
        source, name = self.build_prompts(), env.removeprefix("tokens/")
        if name in TASKS:
            source.check(make_task(name))
            if issubclass(TASKS[name], ConversationTask) and not source.poses_as_written:
                raise InvalidSettingError(
                    f"--prompts {self.prompts} poses prompts that are answered once, and {env} replies: leave it out."
                )
            forked = [each for each in self._named_settings() if each.startswith("fork_")]
            if forked and not issubclass(TASKS[name], ConversationTask):
                raise InvalidSettingError(
                    f"{forked[0]} of --objective-settings has no effect here: {env} does not reply, and only a conversation "
                    "can be continued twice. Leave it out, or use a task such as tokens/look-up."
                )
        if source.credits_apart and not any("span_advantages" in stage.inputs for stage in objective.stages):
            raise InvalidSettingError(
                f"--prompts {self.prompts} has descriptions credited apart from answers, which --objective {self.objective} "
                "does not do: use syn_grpo_style."
            )

    def _check_replay(self, objective: objectives.Objective, env: str, count: int) -> None:
        """Refuses to replay what cannot be replayed, or never would be."""
        wish, replayed = objective.sampling(objective.init()).replay, objective.replayed(objective.init())
        if wish is None or replayed is None:
            return
        if not self.build_prompts().poses_as_written:
            raise InvalidSettingError(
                f"--prompts {self.prompts} poses other prompts than the task, and --objective {self.objective} keeps answers "
                "to those of the task alone: leave either out."
            )
        if has_critic(objective.stages):
            raise InvalidSettingError(
                f"--objective {self.objective} learns with a critic, and replayed responses are measured by those of their "
                "groups: use an objective without one, or leave out replay_ settings."
            )
        name = env.removeprefix("tokens/")
        talks = name not in TASKS or issubclass(TASKS[name], ConversationTask)
        check_replay(wish, replayed, count, talks, env)

    def build_config(self, vocabulary_size: int) -> TransformerConfig:
        """The transformer's configuration.

        Raises:
          InvalidSettingError: sizes that do not fit together.
        """
        return small_config(
            vocabulary_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_key_value_heads=self.num_key_value_heads,
            intermediate_size=self.intermediate_size,
        )

    def acting(self, state: TokenState) -> TokenState:
        """The state less what only learning needs."""
        return TokenState(state.params, None, None, None, None, None, state.response_length)

    def _begin(self, state: TokenState) -> TokenState:
        reference = None if state.reference is None else state.params
        critic = None if state.critic is None else self._new_critic(state.params)
        state = dataclasses.replace(
            state, reference=reference, optimizer=self._adam().init(state.params), critic=critic
        )
        if state.teacher is None:
            return state
        teacher = self.build_teacher(self.build_objective())
        return dataclasses.replace(state, teacher=cast(Teacher, teacher).begin(state.teacher, state.params))

    def _new_critic(self, policy: PyTree) -> CriticState:
        params = TokenCritic.create(self.build_config(_vocabulary_size(policy)), policy, self.critic_trunk).params
        return CriticState(params, self._adam().init(params), jnp.asarray(self.critic_warm_start_steps, jnp.int32))

    def _rehearse(
        self, state: TokenState, objective: objectives.Objective, batch: TokenBatch, key: Array, count: int, beside: int
    ) -> tuple[TokenState, Rehearsal | None, Metrics]:
        """Draws what an iteration of `count` new responses, `beside` of them in a step, replays; None for nothing ever."""
        wish, replayed = objective.sampling(state.objective).replay, objective.replayed(state.objective)
        if wish is None or replayed is None or state.replay is None:
            return state, None, {}
        memory, rehearsal, metrics = Rehearsal.begin(
            wish,
            replayed,
            state.replay,
            key,
            batch,
            size=wish.size or count,
            beside=beside,
            minibatches=self.num_minibatches,
            epochs=self.num_epochs,
        )
        return dataclasses.replace(state, replay=memory), rehearsal, metrics

    def _remember(
        self,
        state: TokenState,
        objective: objectives.Objective,
        batch: TokenBatch,
        rehearsal: Rehearsal,
        count: int,
    ) -> tuple[TokenState, Metrics]:
        """Takes the optimiser steps that replayed responses have of their own, if they do, and keeps what came of new ones."""

        def relearn(carry: TokenState, index: Array) -> tuple[TokenState, Metrics]:
            part, memory = rehearsal.part(index), cast(ReplayState, carry.replay)

            def loss(params: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
                return part.loss(self.model(params), memory.objective)

            slope, (own, metrics) = jax.grad(loss, has_aux=True)(carry.params)
            moved = dataclasses.replace(carry, replay=dataclasses.replace(memory, objective=own))
            moved = self._followed(self._step(moved, slope, self.learning_rate))
            # Adam moves by what it remembers, even where there is nothing to learn from.
            return jax.tree.map(lambda new, old: jnp.where(part.count > 0, new, old), moved, carry), metrics

        metrics: Metrics = {}
        if rehearsal.consecutive:
            state, metrics = jax.lax.scan(relearn, state, rehearsal.orders)
        wish = cast(objectives.Replay, objective.sampling(state.objective).replay)
        memory = cast(ReplayState, state.replay).after(wish, wish.size or count, batch)
        return dataclasses.replace(state, replay=memory), metrics

    def _learn(
        self,
        state: TokenState,
        objective: objectives.Objective,
        part: TokenBatch,
        again: Rehearsal | None = None,
    ) -> tuple[TokenState, Metrics]:
        """One optimiser step on prepared responses, of the policy and of its critic, after which the teacher follows.

        Replayed responses, if there are any beside these, add their loss.
        """
        given, critic = (cast(Prompted, part.context), cast(Array, part.tokens)), state.critic
        teacher, compared = self.build_teacher(objective), objective.teaching(state.objective).compared
        told = (
            teacher.model(state.teacher, self.model(state.params)) if teacher and state.teacher and compared else None
        )

        def loss(params: PyTree, of_critic: PyTree) -> tuple[Array, Any]:
            model = self.model(params)
            hidden = model.hidden(*given)
            found = model.statistics(*given, teacher=told, compared=compared, hidden=hidden)
            value = None
            if of_critic is not None:
                value = TokenCritic(model.config, of_critic).values(*given, hidden)
            outputs = TokenOutputs(found.logp, found.entropy, compared=found.extra, value=value)
            total, aux = objective(state.objective, outputs, part)
            if again is None or state.replay is None:
                return total, (aux, state.replay)
            more, (own, measured) = again.loss(model, state.replay.objective)
            aux = dataclasses.replace(aux, metrics=aux.metrics | measured)
            return total + more, (aux, dataclasses.replace(state.replay, objective=own))

        learned = state.params, None if critic is None else critic.params
        (_, (aux, memory)), (slope, of_critic) = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(*learned)
        metrics = aux.metrics | {"policy/gradient_norm": optax.tree.norm(slope)}
        moved = self._step(dataclasses.replace(state, objective=aux.state, replay=memory), slope, self.learning_rate)
        if critic is not None:
            params, optimizer = held(critic, (state.params, state.optimizer), (moved.params, moved.optimizer))
            critic = critic.step(of_critic, self._adam(), self.critic_learning_rate)
            moved = dataclasses.replace(moved, params=params, optimizer=optimizer, critic=critic)
            metrics |= {"critic/gradient_norm": optax.tree.norm(of_critic)}
        return self._followed(moved), metrics

    def _followed(self, state: TokenState) -> TokenState:
        """With the teacher, if there is one, a step nearer to the policy."""
        teacher = self.build_teacher(self.build_objective()) if state.teacher is not None else None
        if teacher is None or state.teacher is None:
            return state
        return dataclasses.replace(state, teacher=teacher.follow(state.teacher, state.params))

    def _step(self, state: TokenState, slope: PyTree, learning_rate: Any) -> TokenState:
        updates, optimizer = self._adam().update(slope, state.optimizer, state.params)
        params = jax.tree.map(lambda p, u: p - learning_rate * (u + self.weight_decay * p), state.params, updates)
        return dataclasses.replace(state, params=params, optimizer=optimizer, updates=cast(Array, state.updates) + 1)

    def _adam(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(self.max_gradient_norm), optax.scale_by_adam())

    def _answer(self, state: TokenState, observation: Array, key: Array | None) -> Array:
        prompts = jnp.asarray(observation).astype(jnp.int32)
        flat = prompts.reshape(-1, prompts.shape[-1])
        # Padding stands on both sides; what stands between was said, even where that is a token of padding.
        shown = flat != TokenTask.pad_token
        inside = (jnp.cumsum(shown, axis=-1) > 0) & (jnp.cumsum(shown[:, ::-1], axis=-1)[:, ::-1] > 0)
        found = self.model(state.params).respond(flat, inside, key, state.response_length)
        return found.tokens.reshape(*prompts.shape[:-1], state.response_length)


def _room(state: TokenState, task: TokenTask[Any]) -> int:
    """T, the most tokens of a response, or of all turns and replies of a conversation."""
    return task.response_length if isinstance(task, ConversationTask) else state.response_length


def _new_replay(objective: objectives.Objective, key: Array, spec: Spec) -> ReplayState | None:
    """What is remembered before the first iteration, where the objective wants anything replayed."""
    state = objective.init()
    wish, replayed = objective.sampling(state).replay, objective.replayed(state)
    if wish is None or replayed is None:
        return None
    seen = spec.observation_shape[0]  # of a conversation, the prompt and all that may be said after it
    room = spec.action_shape[0] if spec.horizon == 1 else seen
    return ReplayState.create(wish, replayed.init(key), spec.num_envs, seen, room)


def _vocabulary_size(params: PyTree) -> int:
    return int(params["embed_tokens"]["embedding"].shape[0])
