"""A language model as an agent: it answers prompts, is rewarded by an exact checker, and learns by any objective.

`reinforce` is one iteration: draw groups of responses, check them, prepare the batch, and take some optimiser steps on
it. `imitate` is one step of supervised learning from right answers, for a warm start. Both are pure functions of the state,
so seeds are a `vmap` and many iterations a loop on the device.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.networks.transformer import TransformerConfig
from maxent_rl.settings import Count, Fraction, NonNegative, Positive, Settings, Weight, setting, static
from maxent_rl.tokens import objectives
from maxent_rl.tokens.batch import Prompted, TokenBatch, TokenOutputs
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.tokens.prompts import PromptSource, make_source
from maxent_rl.tokens.rollouts import Groups, examine, gather
from maxent_rl.tokens.tasks import TASKS, make_task
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.types import Array, Learns, Metrics, PyTree, Spec
from maxent_rl.usage import above, unless

_WARM = above(warm_start_steps=0)
_PROMPTS_STREAM = 0x50A3C7E5  # folded into the first key: far from the two numbers that it is split into


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
      response_length: T, the most tokens of a response.
      prompts: state of the source of prompts, or None where it has none.
    """

    params: PyTree
    optimizer: PyTree
    reference: PyTree | None
    objective: PyTree
    warm: Array | None
    updates: Array | None
    response_length: int = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    prompts: PyTree = None


@struct.dataclass
class TokenAgent(Settings):
    """A small language model of the Llama layout, trained by any of `objectives.names()`."""

    learns: ClassVar[Learns] = "task"

    objective: str = static("grpo")
    """Name of the objective: grpo, dapo, clip_cov, ... (maxent_rl.tokens.objectives)."""
    objective_settings: tuple[str, ...] | None = static(None)
    """Hyper-parameters of the objective in place of its defaults, as NAME=VALUE, or STAGE.NAME=VALUE where several have it."""
    prompts: str = static("task")
    """Where prompts come from: task, templates, pool, mixture, synthesis (maxent_rl.tokens.prompts)."""
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
        self.build_config(spec.num_actions)
        if spec.num_envs % self.group_size or spec.num_envs % self.num_minibatches:
            raise InvalidSettingError(
                f"--num-envs {spec.num_envs}, the responses of an iteration, must be a multiple of --group-size "
                f"{self.group_size} and of --num-minibatches {self.num_minibatches}."
            )
        self._check_prompts(objective, env)
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
        objective = self.build_objective(spec.action_shape[0], spec.num_actions)
        return TokenState(
            params=params,
            optimizer=self._adam().init(params),
            reference=params if _needs_reference(objective) else None,
            objective=objective.init(objective_key),
            warm=jnp.asarray(self.warm_start_steps, jnp.int32) > 0,
            updates=jnp.zeros((), jnp.int32),
            response_length=spec.action_shape[0],
            prompts=self.build_prompts().init(prompts_key, spec),
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
        answers = self.build_prompts().demonstrations(task, prompt_key, answer_key, count)

        def learn(carry: TokenState, part: tuple[Prompted, Array]) -> tuple[TokenState, Array]:
            def loss(params: PyTree) -> Array:
                model, prompted = self.model(params), part[0]
                found = losses.masked_mean(-model.statistics(*part).logp, prompted.response_mask)
                if not self.warm_start_prompts:
                    return found
                of_prompts = model.prompt_log_probs(prompted.prompts, prompted.prompt_mask)
                known = jnp.isfinite(of_prompts)
                return found + losses.masked_mean(-jnp.where(known, of_prompts, 0.0), known)

            value, slope = jax.value_and_grad(loss)(carry.params)
            return self._step(carry, slope, self.warm_start_learning_rate), value

        parts = jax.tree.map(lambda rows: rows.reshape(self.num_minibatches, -1, *rows.shape[1:]), answers)
        state, values = jax.lax.scan(learn, state, parts)
        value = jnp.mean(values)
        goes_on = (value > self.warm_start_loss) & ((step + 1) * count < self.warm_start_steps)
        state = dataclasses.replace(state, warm=goes_on)
        return jax.lax.cond(goes_on, lambda same: same, self._begin, state), {"supervised/loss": value}

    def reinforce(self, state: TokenState, task: TokenTask[Any], key: Array, count: int) -> tuple[TokenState, Metrics]:
        """Draws `count` responses and learns from them: one iteration."""
        collect_key, learn_key = jax.random.split(key)
        objective = self.build_objective(state.response_length, _vocabulary_size(state.params))
        heard, batch, metrics = self._gather(state, task, collect_key, count)
        own, batch = objective.prepare(state.objective, batch)
        state = dataclasses.replace(state, objective=own, prompts=heard)
        rows = batch.mask.shape[0]  # more than `count` where an objective adds some; what fills no part is left out
        cut, size = (batch.groups, rows // batch.group_size) if objective.whole_groups else (batch.rows, rows)
        orders = jax.vmap(lambda one: jax.random.permutation(one, size))(jax.random.split(learn_key, self.num_epochs))
        orders = orders[:, : size - size % self.num_minibatches].reshape(self.num_epochs * self.num_minibatches, -1)

        def learn(carry: TokenState, index: Array) -> tuple[TokenState, Metrics]:
            # A minibatch has an optimiser step of its own and divides by its own counts, as in verl: steps are of the same
            # size, whichever responses fell into them, and what chooses among tokens chooses among those of the step.
            return self._learn(carry, objective, cut(index).as_step())

        state, found = jax.lax.scan(learn, state, orders)
        return state, metrics | jax.tree.map(jnp.mean, found)

    def collect(self, state: TokenState, task: TokenTask[Any], key: Array, count: int) -> tuple[TokenBatch, Metrics]:
        """Draws the `count` responses of an iteration, with all that its objective asks of them."""
        return self._gather(state, task, key, count)[1:]

    def _gather(
        self, state: TokenState, task: TokenTask[Any], key: Array, count: int
    ) -> tuple[PyTree, TokenBatch, Metrics]:
        objective = self.build_objective(state.response_length, _vocabulary_size(state.params))
        groups = Groups(self.group_size, state.response_length, self.sampling_rounds)
        reference = None if state.reference is None else self.model(state.reference)
        model, source = self.model(state.params), self.build_prompts()
        return gather(model, task, key, count, groups, objective, state.objective, reference, source, state.prompts)

    def examine(self, state: TokenState, task: TokenTask[Any], key: Array, prompts: int) -> dict[str, Array]:
        """Answers held-out prompts: `rollouts.examine`."""
        return examine(self.model(state.params), task, key, prompts, state.response_length, self.eval_samples)

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
        settings: dict[str, Any] = {}
        for text in self.objective_settings or ():
            name, equals, value = text.partition("=")
            if not equals or not name or not value:
                raise InvalidSettingError(f"--objective-settings takes NAME=VALUE, got {text!r}.")
            name, value = name.strip().replace("-", "_"), value.strip()
            is_word = isinstance(objectives.default_of(self.objective, name), str)  # "none" is one
            settings[name] = value if is_word else _value(value)
        known, given = objectives.settings(self.objective), {name.rpartition(".")[2] for name in settings}
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

    def _check_prompts(self, objective: objectives.Objective, env: str) -> None:
        source, name = self.build_prompts(), env.removeprefix("tokens/")
        if name in TASKS:
            source.check(make_task(name))
        if source.credits_apart and not any("span_advantages" in stage.inputs for stage in objective.stages):
            raise InvalidSettingError(
                f"--prompts {self.prompts} has descriptions credited apart from answers, which --objective {self.objective} "
                "does not do: use syn_grpo_style."
            )

    def build_config(self, vocabulary_size: int) -> TransformerConfig:
        """The transformer's configuration.

        Raises:
          InvalidSettingError: sizes that do not fit together.
        """
        if self.hidden_size % (2 * self.num_heads):  # rotary positions turn pairs of a head's entries
            raise InvalidSettingError(
                f"--hidden-size must be a multiple of twice --num-heads, got {self.hidden_size} and {self.num_heads}."
            )
        return TransformerConfig(
            vocabulary_size=vocabulary_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_key_value_heads=self.num_key_value_heads,
            head_size=self.hidden_size // self.num_heads,
            intermediate_size=self.intermediate_size,
            qk_norm=True,
        )

    def acting(self, state: TokenState) -> TokenState:
        """The state less what only learning needs."""
        return TokenState(state.params, None, None, None, None, None, state.response_length)

    def _begin(self, state: TokenState) -> TokenState:
        reference = None if state.reference is None else state.params
        return dataclasses.replace(state, reference=reference, optimizer=self._adam().init(state.params))

    def _learn(
        self, state: TokenState, objective: objectives.Objective, part: TokenBatch
    ) -> tuple[TokenState, Metrics]:
        """One optimiser step on prepared responses."""

        def loss(params: PyTree) -> tuple[Array, Any]:
            found = self.model(params).statistics(cast(Prompted, part.context), cast(Array, part.tokens))
            return objective(state.objective, TokenOutputs(found.logp, found.entropy), part)

        (_, aux), slope = jax.value_and_grad(loss, has_aux=True)(state.params)
        metrics = aux.metrics | {"policy/gradient_norm": optax.tree.norm(slope)}
        state = dataclasses.replace(state, objective=aux.state)
        return self._step(state, slope, self.learning_rate), metrics

    def _step(self, state: TokenState, slope: PyTree, learning_rate: Any) -> TokenState:
        updates, optimizer = self._adam().update(slope, state.optimizer, state.params)
        params = jax.tree.map(lambda p, u: p - learning_rate * (u + self.weight_decay * p), state.params, updates)
        return dataclasses.replace(state, params=params, optimizer=optimizer, updates=cast(Array, state.updates) + 1)

    def _adam(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(self.max_gradient_norm), optax.scale_by_adam())

    def _answer(self, state: TokenState, observation: Array, key: Array | None) -> Array:
        prompts = jnp.asarray(observation).astype(jnp.int32)
        flat = prompts.reshape(-1, prompts.shape[-1])
        found = self.model(state.params).respond(flat, flat != TokenTask.pad_token, key, state.response_length)
        return found.tokens.reshape(*prompts.shape[:-1], state.response_length)


def _needs_reference(objective: objectives.Objective) -> bool:
    return any("logp_ref" in stage.inputs for stage in objective.stages)


def _vocabulary_size(params: PyTree) -> int:
    return int(params["embed_tokens"]["embedding"].shape[0])


def _value(text: str) -> Any:
    """A setting's value: a whole number, a number, true, false, none, or a word."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
