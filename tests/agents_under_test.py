"""The tables of agents under test: a new agent is one more row of one of them.

Every row is put to the agent contract (`agents/test_every_agent.py`). Loops are tested with few agents, which stand for
their kinds; the cross product of loops and all agents is marked `matrix` and runs on demand alone (`pytest -m matrix`):
when a loop or the base of agents changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import (
    DIRECTIONS,
    DiscretePoint,
    HostDiscretePoint,
    HostPoint,
    OneStepDevice,
    OneStepHost,
    Point,
    host_discrete_point,
    host_point,
)
from teachers import make_teacher

from maxent_rl.agents import PPO, SAC
from maxent_rl.agents.imitation.adpo import ADPO
from maxent_rl.agents.imitation.bc import BC
from maxent_rl.agents.imitation.cpl import CPL
from maxent_rl.agents.imitation.doc import DoC
from maxent_rl.agents.imitation.dt import DT
from maxent_rl.agents.offline.cql import CQL
from maxent_rl.agents.offline.iql import IQL
from maxent_rl.agents.offline.rebrac import ReBRAC
from maxent_rl.agents.offline.td3_bc import TD3BC
from maxent_rl.agents.on_policy.pmoe_ppo import PMOEPPO
from maxent_rl.agents.on_policy.reppo import REPPO
from maxent_rl.agents.on_policy.subpo import MODPO, SubPO
from maxent_rl.agents.soft.adpo_online import ADPOOnline
from maxent_rl.agents.soft.bro import BRO
from maxent_rl.agents.soft.pmoe import PMOE
from maxent_rl.agents.soft.sac_discrete import SACDiscrete
from maxent_rl.agents.soft.sac_preference import SACPreference
from maxent_rl.agents.values.bcq import BCQ
from maxent_rl.agents.values.behavior_values import BVE, MCE
from maxent_rl.agents.values.cql_discrete import CQLDiscrete
from maxent_rl.agents.values.crr import CRR
from maxent_rl.agents.values.dqn import DQN, DQNOnline
from maxent_rl.agents.values.qr_dqn import QRDQN
from maxent_rl.agents.values.rem import REM
from maxent_rl.data.batches.preferences import Preferences
from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.datasets.files import write_dataset
from maxent_rl.tokens.agent import TokenAgent

BACKENDS = ("host", "device")
NUM_ENVS = 2  # the same in all tests, which so share compiled programs
NUM_RESPONSES = 16  # likewise, of agents that write responses


@dataclasses.dataclass(frozen=True)
class Row:
    """An agent and what tests must know of it.

    Attributes:
      agent: with small networks; it begins to learn at environment step 20, or right after it.
      probe: settings for a discount of 1/2 and no entropy, with which values are learned within 600 steps.
      values: `(agent, state, observations [n, 1]) -> [...]` values of one-step environments.
      updates: calls of `update` within 120 environment steps.
      refused: settings of its own that cannot work, and what the error says.
      learning: what only learning needs: must not be among the arrays of an exported policy.
      discrete: whether its tests have discrete actions.
      both: whether it takes actions of the other kind too.
      images: whether it reads images beside numbers.
      metrics: what its metrics have in any case.
    """

    agent: Any
    probe: dict[str, Any]
    values: Callable[[Any, Any, jax.Array], jax.Array]
    updates: int
    refused: tuple[dict[str, Any], str]
    learning: tuple[str, ...]
    discrete: bool = False
    both: bool = False
    images: bool = False
    metrics: tuple[str, ...] = ("critic/loss", "actor/loss", "actor/entropy")

    def env(self, backend: str, **settings: Any) -> Any:
        """The point, as `train` takes it."""
        if backend == "host":
            return partial(HostDiscretePoint if self.discrete else HostPoint, **settings)
        return (DiscretePoint if self.discrete else Point)(**settings)

    def one_step(self, backend: str, terminates: bool) -> Any:
        """Every step pays 1 and ends the episode."""
        number = 2 if self.discrete else None
        return partial(OneStepHost, terminates, number) if backend == "host" else OneStepDevice(terminates, number)


def _critics(agent: Any, state: Any, observation: jax.Array) -> jax.Array:
    choices = jnp.arange(len(observation)) % 2
    actions = choices if isinstance(agent, SACDiscrete) else jnp.linspace(-1, 1, len(observation))[:, None]
    return agent.values(state.critics, observation, actions, jax.random.key(0))


def _value(agent: Any, state: Any, observation: jax.Array) -> jax.Array:
    seen = observation if state.normalizer is None else state.normalizer.normalize(observation)
    return agent.value(state.parameters, seen)


def _action_values(agent: Any, state: Any, observation: jax.Array) -> jax.Array:
    actions = jnp.linspace(-1, 1, len(observation))[:, None]
    return agent.action_values(state, observation, actions, jax.random.key(0))


_OFF = {"hidden_sizes": (8,), "batch_size": 16, "replay_size": 200, "start_steps": 20, "learning_rate": 1e-2}
_OFF_PROBE = {"discount": 0.5, "temperature_mode": "fixed", "initial_temperature": 1e-6, "target_update_rate": 0.1}
# A greedy policy never takes one of two equal choices: its value is learned from the uniform start, if the buffer keeps it.
_BOTH_CHOICES = {"start_steps": 200, "replay_size": 1_000}
_off_policy = partial(
    Row,
    probe=_OFF_PROBE,
    values=_critics,
    updates=100,
    refused=({"target_critics": 3}, "--target-critics (3) must be at most --num-critics (2)"),
    learning=("critic", "optimizer", "log_alpha"),
    images=True,
)

_ON = {"hidden_sizes": (8,), "rollout_size": 20, "epochs": 2, "minibatches": 2, "learning_rate": 1e-3}
_on_policy = partial(
    Row,
    probe={"discount": 0.5, "normalize_rewards": False, "learning_rate": 1e-2, "epochs": 8},
    values=_value,
    updates=6,
    refused=({"minibatches": 3}, "--minibatches 3 cannot share the 20 steps of an update"),
    learning=("value", "['q']", "optimizer", "log_alpha", "reward_scale"),
    images=True,
)

AGENTS_UNDER_TEST = {
    "sac": _off_policy(SAC(**_OFF)),
    "sac-discrete": _off_policy(SACDiscrete(**_OFF), probe=_OFF_PROBE | _BOTH_CHOICES, discrete=True),
    "pmoe": _off_policy(PMOE(**_OFF, num_experts=2)),
    "adpo-online": _off_policy(
        ADPOOnline(**_OFF, num_candidates=4, anchor="ema"), learning=("critic", "optimizer", "log_alpha", "anchor")
    ),
    "bro": _off_policy(
        BRO(**_OFF | {"critic_hidden_sizes": (8,), "num_quantiles": 5}),
        learning=("critic", "optimizer", "log_alpha", "exploring"),
        images=False,
    ),
    "dqn-online": Row(
        DQNOnline(**_OFF, target_every=10),
        probe={"discount": 0.5, "updates_per_step": 2.0},
        values=lambda agent, state, observation: agent.values(state.networks, observation),
        updates=100,
        refused=({"exploration_updates": 0}, "--exploration-updates must be at least 1, got 0"),
        learning=("targets", "optimizer"),
        discrete=True,
        metrics=("critic/loss", "actor/entropy"),
    ),
    "ppo": _on_policy(PPO(**_ON), both=True),
    "pmoe-ppo": _on_policy(PMOEPPO(**_ON, num_experts=2)),
    "reppo": _on_policy(
        REPPO(**_ON, critic_width=8, value_low=-4.0, value_high=4.0, value_bins=17),
        probe={"discount": 0.5, "learning_rate": 1e-2, "epochs": 8, "initial_temperature": 1e-6},
        values=_action_values,
        learning=("critic", "optimizer", "log_alpha", "log_beta"),
        images=False,
    ),
    "subpo": _on_policy(
        SubPO(**_ON | {"minibatches": 1}, baseline="value", history="recurrent", history_size=4, history_layers=1),
        refused=({"horizon": "myopic"}, "--horizon myopic has no value function"),
        learning=("value", "optimizer", "log_alpha", "reward_scale"),
        both=True,
    ),
    "modpo": _on_policy(
        MODPO(**_ON, baseline="value"), learning=("value", "optimizer", "log_alpha", "reward_scale"), both=True
    ),
}

# Agents that write responses learn from tasks, by a loop of their own: tokens/test_agent.py, training/loops/test_tokens.py.
TOKEN_AGENTS_UNDER_TEST = {
    "grpo": TokenAgent(
        hidden_size=16, num_layers=1, num_heads=2, num_key_value_heads=1, intermediate_size=16, group_size=4,
        eval_samples=3, num_minibatches=2, num_epochs=2, warm_start_steps=4 * NUM_RESPONSES, warm_start_loss=0.0,
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class OfflineRow:
    """An agent that learns from fixed data and what tests must know of it.

    Attributes:
      agent: with small networks.
      source: the setting of a run that says where the data is.
      make: writes such data for the row's environment into a folder, from a `seed`, and gives what the setting takes.
      learning: what only learning needs: must not be among the arrays of an exported policy.
      discrete: whether its tests have discrete actions: data and runs of `DiscretePoint` instead of `Point`.
    """

    agent: Any
    source: str
    make: Callable[..., str]
    learning: tuple[str, ...]
    discrete: bool = False

    @property
    def env_name(self) -> str:
        """As the data has it."""
        return "DiscretePoint" if self.discrete else "Point"

    def env(self, backend: str) -> Any:
        """The point, as `train` takes it."""
        if backend == "host":
            return host_discrete_point if self.discrete else host_point
        return DiscretePoint() if self.discrete else Point()


def make_preferences(folder: Path, seed: int = 0) -> str:
    """A file of preferences among uniform actions of `Point`: better is what moves towards the origin."""
    random = np.random.default_rng(seed)
    observation, action = (random.uniform(-0.99, 0.99, (60, 4, 2)).astype(np.float32) for _ in range(2))
    score = -np.sum((action + np.sign(observation)) ** 2, axis=(1, 2))
    pairs = np.arange(60, dtype=np.int32).reshape(30, 2)
    label = (score[pairs[:, 0]] < score[pairs[:, 1]]).astype(np.float32)
    path = folder / "point.npz"
    Preferences(observation, action, pairs, label, "Point", {}, score).save(path)
    return str(path)


def make_dataset(
    folder: Path, discrete: bool, seed: int = 0, episodes: int = 20, length: int = 20, skill: float = 0.0
) -> str:
    """A file of transitions of `DiscretePoint` or `Point`, every episode cut by its time limit.

    Actions are uniform, but for a share `skill` that goes straight for the origin.
    """
    random = np.random.default_rng(seed)
    place = random.uniform(-1, 1, (episodes, 2))
    before, taken, after = [], [], []
    for _ in range(length):
        skilled = random.random(episodes) < skill
        if discrete:
            nearest = np.argmin(np.sum((place[:, None] + 0.1 * DIRECTIONS) ** 2, axis=-1), axis=-1)
            action = np.where(skilled, nearest, random.integers(len(DIRECTIONS), size=episodes))
        else:
            action = np.where(skilled[:, None], np.clip(-10 * place, -1, 1), random.uniform(-1, 1, (episodes, 2)))
        before.append(place)
        taken.append(action)
        place = place + 0.1 * (DIRECTIONS[action] if discrete else action)
        after.append(place)
    observation, action, following = (np.stack(each, axis=1) for each in (before, taken, after))
    ends = np.arange(episodes * length) % length == length - 1
    data = Dataset(
        observation=observation.reshape(-1, 2).astype(np.float32),
        action=action.reshape(-1).astype(np.int32) if discrete else action.reshape(-1, 2).astype(np.float32),
        reward=-np.sum(following**2, axis=-1).reshape(-1).astype(np.float32),
        next_observation=following.reshape(-1, 2).astype(np.float32),
        terminated=np.zeros(episodes * length, bool),
        truncated=ends,
        env="DiscretePoint" if discrete else "Point",
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_dataset(data, folder / "transitions.npz")
    return str(folder / "transitions.npz")


_FIXED = {"hidden_sizes": (8,), "batch_size": 16, "learning_rate": 1e-2}
_discrete_data = partial(
    OfflineRow,
    source="dataset",
    make=partial(make_dataset, discrete=True),
    learning=("targets", "optimizer"),
    discrete=True,
)
_continuous = partial(
    OfflineRow,
    source="dataset",
    make=partial(make_dataset, discrete=False),
    learning=("critic", "optimizer", "target", "['value']"),
)


_SEQUENCES = {"width": 8, "layers": 1, "context": 2, "batch_size": 8, "dropout": 0.0, "warmup_steps": 1}

# Agents that learn from fixed data, by a loop of their own: training/loops/test_offline.py.
OFFLINE_AGENTS_UNDER_TEST = {
    "adpo": OfflineRow(
        ADPO(hidden_sizes=(8,), batch_size=16, num_states=60, held_out_states=20, num_candidates=4, anchor="ema"),
        "teacher",
        make_teacher,
        ("anchor", "optimizer"),
    ),
    "cpl": OfflineRow(
        CPL(
            hidden_sizes=(8,),
            batch_size=16,
            density="gaussian",
            reference=True,
            bc_steps=12,
            warmup_steps=5,
            learning_rate=1e-2,
        ),
        "dataset",
        make_preferences,
        ("reference", "optimizer"),
    ),
    "bc": _discrete_data(BC(**_FIXED)),
    "dqn": _discrete_data(DQN(**_FIXED, target_every=10)),
    "qr-dqn": _discrete_data(QRDQN(**_FIXED, target_every=10, num_quantiles=3)),
    "rem": _discrete_data(REM(**_FIXED, target_every=10, num_heads=4)),
    "bve": _discrete_data(BVE(**_FIXED)),
    "mce": _discrete_data(MCE(**_FIXED)),
    "bcq": _discrete_data(BCQ(**_FIXED, target_every=10)),
    "cql-discrete": _discrete_data(CQLDiscrete(**_FIXED, target_every=10)),
    "crr": _discrete_data(CRR(**_FIXED, target_every=10), learning=("targets", "optimizer", "['q']")),
    "cql": _continuous(
        CQL(**_FIXED, sampled_actions=2, lagrange_threshold=0.5),
        learning=("critic", "optimizer", "log_alpha", "weight"),
    ),
    "iql": _continuous(IQL(**_FIXED)),
    "rebrac": _continuous(ReBRAC(**_FIXED)),
    "td3-bc": _continuous(TD3BC(**_FIXED)),
    "dt": _continuous(DT(**_SEQUENCES), learning=("optimizer",)),
    "doc": _continuous(
        DoC(**_SEQUENCES | {"layers": 0}, ahead=2, head_sizes=(8,), latent_size=3, num_latents=4, energy_steps=1),
        learning=("optimizer", "energy", "posterior"),
    ),
}

# Agents that act, once they have learned something from fixed data: agents/test_cpl.py.
PREPARING_AGENTS_UNDER_TEST = {"sac-preference": SACPreference(**_OFF, reward_hidden_sizes=(8,), reward_updates=10)}


def every_offline_agent(*representatives: str) -> pytest.MarkDecorator:
    """Runs a test of loops for some agents that learn from fixed data, as `name`; with `-m matrix` for all others."""
    return _parametrized(OFFLINE_AGENTS_UNDER_TEST, representatives)


def every_agent(*representatives: str) -> pytest.MarkDecorator:
    """Runs a test of loops for some agents that act, as `name`; with `-m matrix` for all others."""
    return _parametrized(AGENTS_UNDER_TEST, representatives)


def _parametrized(names: Iterable[str], representatives: tuple[str, ...]) -> pytest.MarkDecorator:
    rows = [pytest.param(name, marks=[] if name in representatives else [pytest.mark.matrix]) for name in names]
    return pytest.mark.parametrize("name", rows)
