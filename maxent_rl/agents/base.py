"""What an agent is: hyper-parameters, and four pure functions.

An agent is a frozen dataclass that holds hyper-parameters and nothing else; all that learning changes is in the state that
goes in and comes out. Loops rely on the protocols here and on no particular agent.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import jax

from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.settings import check_settings
from maxent_rl.types import Array, Learns, Metrics, PyTree, Spec, Transition

SCHEDULED = ("start_steps", "most_start_steps", "updates_per_step")
"""Hyper-parameters that the schedule of gradient steps reads, and nothing else."""

State = TypeVar("State")


class Agent(Protocol[State]):
    """The contract of every agent. All four functions are pure, so `jax.vmap` over the state gives seeds.

    Attributes:
      learns: which loop trains it, and which of the contracts below it keeps: "replay" `OffPolicyAgent`, "rollout"
        `OnPolicyAgent`, "data" `OfflineAgent`, "task" `WritesResponses`.

    One whose class says `makes_several_choices = True` also acts where an action is several choices at once (`Spec.choices`),
    and one whose class says `sees_images = True` also where observations end in images (`Spec.frames`).
    """

    learns: ClassVar[Learns]

    def init(self, key: Array, spec: Spec) -> State:
        """Builds the state of one seed."""
        ...

    def act(self, state: State, observation: Array, key: Array) -> Array:
        """Draws actions for collecting: [..., observation] to [..., action].

        Environments take [-1, 1] and clip what lies outside. Discrete actions are whole numbers [...] from 0, or [..., entry]
        of an agent that `makes_several_choices`.
        """
        ...

    def mode(self, state: State, observation: Array) -> Array:
        """Chooses the most likely actions, for evaluation, in the form that `act` has."""
        ...

    def update(self, state: State, batch: Transition, key: Array) -> tuple[State, Metrics]:
        """Learns from a batch; metrics are scalars.

        For an off-policy agent that is one gradient step on transitions [batch], for an on-policy agent whatever it does
        with a window of transitions [time, env].
        """
        ...


class OffPolicyAgent(Agent[State], Protocol[State]):
    """An agent that learns from replayed transitions; the loops read how from these settings.

    Attributes:
      batch_size: transitions in a batch.
      replay_size: transitions that the buffer holds; the oldest give way.
      start_steps: environment steps with uniform actions before the first update; None for ten episodes, at most
        `most_start_steps`, or 10,000 where there is no such setting.
      updates_per_step: gradient steps for each environment step.
      n_step: environment steps that a transition of a batch spans, at most.
      discount: the factor by which rewards within a transition of several steps are discounted.
    """

    batch_size: int
    replay_size: int
    start_steps: int | None
    updates_per_step: float
    n_step: int
    discount: Any


class OnPolicyAgent(Agent[State], Protocol[State]):
    """An agent that learns from what its newest policy did: `update` is called once for each window of steps.

    Attributes:
      rollout_size: environment steps in a window, all environments of a seed together; whole steps of all of them, at
        least one (`rollout_time`). None for one episode of the longest length of each environment. Steps at the end of a
        run that fill no window are not learned from.
      discount: the factor by which later rewards are discounted.
    """

    rollout_size: int | None
    discount: Any


class OfflineAgent(Agent[State], Protocol[State]):
    """An agent that learns from fixed data: `update` takes batches drawn from it, and a step of its run is one update.

    Attributes:
      learns_from: the kind of data, one of `sources.load.SOURCES`.
      batch_size: entries of a batch.
    """

    learns_from: ClassVar[str]
    batch_size: int


@runtime_checkable
class Discounts(Protocol):
    """An offline agent whose data comes with what later rewards are worth now; of others they count in full."""

    discount: Any


@runtime_checkable
class LooksAhead(Protocol):
    """An offline agent whose windows go on beyond the present step; those of others end with it.

    Attributes:
      ahead: steps from the present one on.
    """

    ahead: int


@runtime_checkable
class ChecksSteps(Protocol):
    """An offline agent that can say whether a run is long enough for it."""

    def check_steps(self, total_steps: int) -> None:
        """Raises an error that says what is too few about that many updates."""
        ...


@runtime_checkable
class ExaminesData(Protocol):
    """An offline agent that can be measured on data kept apart from what it learns from."""

    def examine(self, state: PyTree, held_out: Any) -> Metrics:
        """Scalars, by the name of their column in eval.csv."""
        ...


@runtime_checkable
class BeginsFromData(Protocol):
    """An offline agent whose state takes something from the data before the first update, such as how observations spread."""

    def begin(self, state: PyTree, data: Any) -> PyTree:
        """The state, of the same structure, to begin with; `data` is what batches are drawn from."""
        ...


@runtime_checkable
class ChecksData(Protocol):
    """An offline agent that can say of a data set whether it can learn from it."""

    def check_data(self, data: Any) -> None:
        """Raises an error that says what of the data does not fit."""
        ...


@runtime_checkable
class PreparesFromData(Protocol):
    """An agent that learns by acting, after it has learned something from fixed data once.

    Attributes:
      prepares_from: the kind of data, one of `sources.load.SOURCES`.
    """

    prepares_from: ClassVar[str]

    def prepare(self, state: PyTree, data: Any, held_out: Any, key: Array) -> tuple[PyTree, Metrics]:
        """The state to begin with, and scalars that say how well that went."""
        ...


@runtime_checkable
class Watches(Protocol):
    """An off-policy agent that takes in each step as it happens, beside what it replays: what it says is in its state."""

    def watch(self, state: PyTree, step: Transition, key: Array) -> PyTree:
        """The state after a step [env] of all environments, those with uniform actions at the start included."""
        ...


def watched(agent: Any, state: PyTree, step: Transition, key: Array) -> PyTree:
    """The state after a step; the very one that was given for agents that do not watch."""
    return agent.watch(state, step, key) if agent.learns == "replay" and isinstance(agent, Watches) else state


@runtime_checkable
class Remembers(Protocol):
    """An offline or on-policy agent whose actions follow from the episode so far, not from the observation alone.

    Whoever plays keeps the memory: a fresh one for each episode, put into the state before `act` and `mode`, and told after
    each step what happened. With a state that nothing was put into, they choose an episode's first action.

    Of an on-policy agent, `update` takes a state that recalls the memory [env, ...] with which the window began, the first
    of its batch [time, env]; within the window a fresh one begins after each step that ended an episode, terminated or
    truncated. What `update` leaves of it in the state is taken out again. An episode that goes on beyond the window keeps
    its memory, which older parameters have made. A memory may also be empty, such as `()`.
    """

    def memory(self, state: PyTree, batch_shape: tuple[int, ...]) -> PyTree:
        """What is known at the start of episodes, a pytree of [*batch_shape, ...]."""
        ...

    def recalling(self, state: PyTree, memory: PyTree) -> PyTree:
        """The state with which `act` and `mode` choose by what is remembered, for observations [*batch_shape, observation].

        With None nothing is remembered: what was put in is taken out, which leaves the structure that `init` gives.
        """
        ...

    def remember(self, state: PyTree, memory: PyTree, observation: Array, action: Array, reward: Array) -> PyTree:
        """The memory after a step: observations before it, the actions chosen, and their rewards [*batch_shape]."""
        ...


def fresh_memory(agent: Any, state: PyTree, batch_shape: tuple[int, ...]) -> PyTree:
    """The memory at the start of episodes; nothing, without a single array, for agents that do not remember."""
    return agent.memory(state, batch_shape) if isinstance(agent, Remembers) else ()


def recalling(agent: Any, state: PyTree, memory: PyTree) -> PyTree:
    """The state to act with: the very one that was given for agents that do not remember."""
    return agent.recalling(state, memory) if isinstance(agent, Remembers) else state


def remember(agent: Any, state: PyTree, memory: PyTree, observation: Array, action: Array, reward: Array) -> PyTree:
    """The memory after a step; nothing for agents that do not remember."""
    return agent.remember(state, memory, observation, action, reward) if isinstance(agent, Remembers) else ()


def reads_data(agent: Any) -> str | None:
    """The kind of fixed data that an agent learns from, or prepares itself from; None for none."""
    if isinstance(agent, PreparesFromData):
        return agent.prepares_from
    return str(agent.learns_from) if agent.learns == "data" else None


def relabels_goals(agent: Any) -> bool:
    """Whether an agent replays steps as if other goals had been wanted (`Collecting.goal_relabel`)."""
    return agent.learns == "replay" and getattr(agent, "goal_relabel", "none") != "none"


def rollout_time(agent: Any, spec: Spec) -> int:
    """Steps of each of `spec.num_envs` environments in the windows of an on-policy agent."""
    return spec.horizon if agent.rollout_size is None else max(int(agent.rollout_size) // spec.num_envs, 1)


@runtime_checkable
class ChecksSpec(Protocol):
    """An agent that can say before anything is built whether it fits an environment."""

    def check(self, spec: Spec, env: str) -> None:
        """Raises an error that names the environment and what does not fit."""
        ...


@runtime_checkable
class ExportsPolicy(Protocol):
    """An agent that acts from a part of its state alone, so that an exported policy need not hold the rest."""

    def acting(self, state: PyTree) -> PyTree:
        """The state with None in place of all that `act` and `mode` do not read."""
        ...


@runtime_checkable
class WritesResponses(Protocol):
    """An agent that answers prompts with sequences of tokens; it learns from a task (`tokens.tasks.TokenTask`) itself.

    The environment of a task, one step of one response, serves its evaluation alone.
    """

    def imitate(self, state: PyTree, task: Any, key: Array, count: int, step: Any) -> tuple[PyTree, Metrics]:
        """Learns from `count` right answers: one optimiser step, number `step`, while the state is `warm`."""
        ...

    def reinforce(self, state: PyTree, task: Any, key: Array, count: int) -> tuple[PyTree, Metrics]:
        """Draws `count` responses and learns from them."""
        ...


@runtime_checkable
class HasExperts(Protocol):
    """An agent whose policy has several experts and a router among them.

    Where it draws one of them for each action, `act` takes what the mixture's `sample_with_expert` gives for the same key.
    """

    def experts(self, state: PyTree, observation: Array) -> Any:
        """A `GaussianMixture` or `TanhGaussianMixture` of all experts at observations [..., observation]."""
        ...


@runtime_checkable
class HasCritics(Protocol):
    """An agent that has learned the values of actions."""

    def act(self, state: PyTree, observation: Array, key: Array) -> Array:
        """As of every agent."""
        ...

    def action_values(self, state: PyTree, observation: Array, action: Array, key: Array) -> Array:
        """All critics' values of actions [..., action] at observations as environments give them: [critic, ...]."""
        ...


_CONTRACTS: dict[str, tuple[str, Any]] = {
    "replay": ("off-policy agent", OffPolicyAgent),
    "rollout": ("on-policy agent", OnPolicyAgent),
    "data": ("offline agent", OfflineAgent),
    "task": ("agent that learns from a task", WritesResponses),
}


def check_kind(agent: Any) -> None:
    """Refuses what is no agent, and an agent that does not say what it learns from.

    Raises:
      InvalidSettingError: saying what to declare.
    """
    if isinstance(agent, type):
        raise InvalidSettingError(f"An agent is an instance, got the class {agent.__name__}: write {agent.__name__}().")
    if not dataclasses.is_dataclass(agent):
        raise InvalidSettingError(
            f"An agent is a flax.struct dataclass, such as SAC(learning_rate=1e-3), or a name, such as 'sac'; got {agent!r}."
        )
    if jax.tree_util.all_leaves([agent]):
        raise InvalidSettingError(
            f"{type(agent).__name__} is not a pytree: decorate its class with flax.struct.dataclass (subclasses too)."
        )
    learns = getattr(agent, "learns", None)
    if learns not in _CONTRACTS:
        raise InvalidSettingError(
            f"{type(agent).__name__} does not say what it learns from: give its class `learns: ClassVar[str]`, one of "
            f"{', '.join(map(repr, _CONTRACTS))}{'' if learns is None else f', got {learns!r}'}."
        )


def check_agent(agent: Any, spec: Spec, env: str) -> None:
    """Refuses impossible hyper-parameters, and environments that the agent cannot handle.

    Args:
      agent: the agent.
      spec: of the environment.
      env: the environment's name, for the message.

    Raises:
      InvalidSettingError: a hyper-parameter that cannot work.
      IncompatibleEnvironmentError: spaces that the agent does not handle.
    """
    check_kind(agent)
    kind, contract = _CONTRACTS[agent.learns]
    missing = [name for name in contract.__annotations__ if not hasattr(agent, name)]
    if missing:
        raise InvalidSettingError(
            f"{type(agent).__name__} lacks {', '.join(missing)}, which the training loop reads of every {kind}."
        )
    check_settings(agent)
    if spec.num_actions is not None and spec.action_shape and agent.learns != "task":
        # Agents here choose one action at a time; what writes sequences is trained by a loop of its own.
        raise IncompatibleEnvironmentError(f"{env} wants sequences of {spec.action_size} tokens; use --agent lm.")
    if spec.choices is not None and not getattr(agent, "makes_several_choices", False):
        raise IncompatibleEnvironmentError(
            f"{type(agent).__name__} takes one action at a time, but {env} wants {len(spec.choices)} choices at once "
            f"({actions_in_words(spec)}): --agent ppo and --agent subpo handle those."
        )
    if spec.frames and not getattr(agent, "sees_images", False):
        raise IncompatibleEnvironmentError(
            f"{type(agent).__name__} reads numbers, not pixels, but {env} shows {images_in_words(spec)}: "
            f"{'--agent sac' if spec.is_continuous else '--agent sac-discrete'} and --agent ppo handle those."
        )
    if agent.learns == "replay" and isinstance(agent, Remembers):
        raise InvalidSettingError(
            f"{type(agent).__name__} remembers its episodes, which off-policy agents cannot: what they replay has lost what "
            "came before it."
        )
    if relabels_goals(agent):
        _check_goals(agent, spec, env)
    if isinstance(agent, ChecksSpec):
        agent.check(spec, env)


def _check_goals(agent: Any, spec: Spec, env: str) -> None:
    if spec.observation_space is None or spec.observation_space.goals is None:
        observed = f"vectors of {spec.observation_size}"
        if spec.observation_space is not None:
            space = spec.observation_space
            observed = f"a {space.kind}" + (f" with {', '.join(space.names)}" if space.names else f" {space.shape}")
        raise IncompatibleEnvironmentError(
            f"--goal-relabel {agent.goal_relabel} needs a goal environment, whose observation is a Dict with achieved_goal "
            f"and desired_goal, arrays of one shape; {env} observes {observed}."
        )
    if agent.n_step != 1:
        raise InvalidSettingError(
            f"--goal-relabel {agent.goal_relabel} needs --n-step 1, got {agent.n_step}: the rewards of a transition's steps "
            "are not paid anew apart."
        )


def actions_in_words(spec: Spec) -> str:
    """What the actions of an environment are, for messages."""
    if spec.choices is not None:
        return f"MultiDiscrete actions of {' x '.join(map(str, spec.choices))}"
    if spec.num_actions is not None:
        return f"{spec.num_actions} discrete actions"
    return "continuous actions (a Box action space)"


def images_in_words(spec: Spec) -> str:
    """What images end the observations of an environment, for messages."""
    frames = " and ".join(" x ".join(map(str, frame)) for frame in spec.frames)
    return f"{'an image' if len(spec.frames) == 1 else 'images'} of {frames}"


def acting_state(agent: Any, state: PyTree) -> PyTree:
    """The part of the state that acting needs: the whole of it for agents that do not say."""
    return agent.acting(state) if isinstance(agent, ExportsPolicy) else state
