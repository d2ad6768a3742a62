"""A trained policy with several experts, looked at: who acts when, how the router's weight is spread, who does what where.

What an environment with several right answers pays is drawn beneath what the policy does, whether it has experts or not.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from maxent_rl.agents.base import HasExperts
from maxent_rl.agents.experts import COLLAPSED
from maxent_rl.agents.programs import program_of_agent
from maxent_rl.agents.registry import agent_name
from maxent_rl.envs.env import Env
from maxent_rl.envs.reward_map import HasRewardMap
from maxent_rl.errors import CheckpointError, InvalidSettingError
from maxent_rl.pictures.expertise import Expertise
from maxent_rl.pictures.style import save
from maxent_rl.playing.choosing import most_likely, sampled_action
from maxent_rl.playing.opening import open_environment
from maxent_rl.playing.trajectories import Trajectory, collect_trajectories
from maxent_rl.runs.policy import Policy, policy_folder
from maxent_rl.runs.records import read_csv
from maxent_rl.seeds.variants import member_name
from maxent_rl.types import Array, PyTree

Floats = NDArray[np.float32]

_EPISODES, _ONE_STEP_EPISODES = 20, 1000
_ROWS = 1024  # states are examined in multiples of so many, so that not every number of steps compiles anew


@dataclasses.dataclass(frozen=True)
class Findings:
    """What was found and drawn of one policy.

    Attributes:
      policy: the policy.
      trajectories: its episodes; their notes are the experts that acted, where there are experts.
      expertise: what its experts do; None where it has none.
      pictures: files written.
      remarks: sentences on what is missing or amiss.
    """

    policy: Policy
    trajectories: list[Trajectory]
    expertise: Expertise | None
    pictures: list[Path]
    remarks: list[str]

    @property
    def name(self) -> str:
        """Environment, seed and variant, training behind it, and episodes, in words."""
        return f"{self.policy.env}: {_details(self.policy, len(self.trajectories))}"


def look_at_experts(
    policy: Policy,
    run: Path,
    output: Path,
    *,
    episodes: int | None = None,
    seed: int = 0,
    stochastic: bool = True,
    env: Env | None = None,
) -> Findings:
    """Plays episodes of a policy and draws what its experts do.

    Args:
      policy: as from `load_policy`.
      run: the run's folder, whose metrics.csv tells of the training.
      output: folder of the pictures; made if missing, older pictures are replaced.
      episodes: how many; None for 20, or for 1,000 where an episode is a single step.
      seed: decides the start states and what is sampled.
      stochastic: sample expert and action; otherwise the most likely action, that of the heaviest expert, is taken.
      env: the environment, where it was not trained on one with a name.

    Raises:
      InvalidSettingError: the policy has no experts, and its environment no landscape either.
      StorageError: a picture cannot be written.
      MaxentRLError: as of `collect_trajectories`.
    """
    from maxent_rl.pictures import landscapes

    source: Any = open_environment(policy, env)
    landscape = source.reward_map if isinstance(source, HasRewardMap) else None
    if num_experts(policy) == 1 and landscape is None:
        raise InvalidSettingError(_without_experts(policy, run) + ".")
    if episodes is None:
        episodes = _ONE_STEP_EPISODES if policy.spec.horizon == 1 else _EPISODES
    trajectories, expertise = play_experts(policy, episodes, seed=seed, stochastic=stochastic, env=env)
    pictures: dict[str, Any] = {}
    if expertise is not None:
        pictures, remarks = _draw_expertise(policy, run, expertise, trajectories)
    else:
        remarks = [_without_experts(policy, run) + "; only the landscape is drawn."]
    if landscape is not None:
        titles = policy.env, _details(policy, episodes)
        pictures["landscape"] = landscapes.landscape(landscape, trajectories, expertise, titles)
    paths = [save(figure, output / f"{name}.png") for name, figure in pictures.items()]
    return Findings(policy, trajectories, expertise, paths, remarks)


def play_experts(
    policy: Policy, episodes: int, *, seed: int = 0, stochastic: bool = True, env: Env | None = None
) -> tuple[list[Trajectory], Expertise | None]:
    """Plays episodes and notes which expert acts in each step; arguments and errors as of `look_at_experts`.

    Returns:
      (trajectories, expertise): the experts in their states; None where the policy has one expert, or knows of none.
    """
    if num_experts(policy) == 1:
        choose = sampled_action if stochastic else most_likely
        return collect_trajectories(policy, episodes, seed=seed, choose=choose, env=env), None
    choose = _sampled_expert if stochastic else _heaviest_expert
    trajectories = collect_trajectories(policy, episodes, seed=seed, choose=choose, env=env)
    return trajectories, examine(policy, trajectories, seed)


def num_experts(policy: Policy) -> int:
    """How many experts a policy has; 1 for an agent that knows of none."""
    if not isinstance(policy.agent, HasExperts):
        return 1
    mixture = jax.eval_shape(policy.agent.experts, policy.state, jnp.zeros(policy.spec.observation_shape))
    return int(mixture.logits.shape[-1])


def examine(policy: Policy, trajectories: list[Trajectory], seed: int = 0) -> Expertise:
    """What the experts do in all states in which an action was taken.

    Args:
      policy: one with experts.
      trajectories: whose notes are the experts that acted.
      seed: of the samples that estimate entropies.
    """
    observation = np.concatenate([each.observation[:-1] for each in trajectories])
    count = len(observation)
    padded = np.resize(observation, (-(-count // _ROWS) * _ROWS, observation.shape[1]))
    found = _examined(policy.agent, policy.state, padded, jax.random.key(seed))
    weights, router_entropy, expert_entropy, actions = (np.asarray(leaf)[:count] for leaf in found)
    chosen = np.concatenate([each.notes for each in trajectories])
    draws = _draws_expert(policy.agent, policy.state, jnp.asarray(observation[:1]))
    return Expertise(observation, chosen, weights, router_entropy, expert_entropy, actions, draws)


def run_folder(path: Path) -> Path:
    """The folder of the run whose policy lies in `path`, which may be the run's folder or the policy's."""
    folder = policy_folder(path)
    return folder.parent if (folder.parent / "config.json").exists() else folder


def picture_folder(policy: Policy) -> Path:
    """Where one of several policies has its pictures: `seed_0`; with variants `learning_rate_0.001/seed_0`."""
    varied = "_".join(f"{name}_{value:g}" for name, value in policy.variant.items())
    return Path(varied) / f"seed_{policy.seed}"


def _sampled_expert(agent: Any, state: PyTree, observation: Array, key: Array | None) -> tuple[Array, PyTree]:
    """`sampled_action`, with the expert that drew it as its note; the heaviest one where none is drawn."""
    mixture = agent.experts(state, observation)
    drawn = _draws_expert(agent, state, observation)
    expert = mixture.sample_with_expert(key)[1] if drawn else mixture.router.mode()
    return agent.act(state, observation, key), expert


def _heaviest_expert(agent: Any, state: PyTree, observation: Array, key: Array | None) -> tuple[Array, PyTree]:
    """`most_likely`, with the expert of the largest weight, whose mean it is, as its note."""
    return agent.mode(state, observation), agent.experts(state, observation).router.mode()


def _draws_expert(agent: Any, state: PyTree, observation: Array) -> bool:
    """Whether each action is one expert's, which an agent shows by acting through its mixture."""
    policy = agent.distribution if hasattr(agent, "distribution") else agent.experts
    return hasattr(jax.eval_shape(policy, state, observation), "sample_with_expert")


@program_of_agent()
def _examined(agent: Any, state: PyTree, observation: Array, key: Array) -> tuple[Array, Array, Array, Array]:
    mixture = agent.experts(state, observation)
    experts = mixture.experts
    return jnp.exp(mixture.router.log_probs), mixture.router.entropy(), experts.entropy(key), experts.mode()


def _training_rows(policy: Policy, run: Path) -> list[dict[str, float]]:
    """Rows of metrics.csv of this seed and variant that tell of a router."""
    wanted = {"seed": policy.seed, **policy.variant}
    try:
        rows = read_csv(run / "metrics.csv")
    except CheckpointError:
        return []
    numbers = [{name: float(value) for name, value in row.items() if not isinstance(value, str)} for row in rows]
    return [
        row
        for row in numbers
        if all(math.isclose(row.get(name, math.nan), value, rel_tol=1e-6) for name, value in wanted.items())
        and math.isfinite(row.get("router/usage_0", math.nan))
    ]


def _draw_expertise(
    policy: Policy, run: Path, expertise: Expertise, trajectories: list[Trajectory]
) -> tuple[dict[str, Any], list[str]]:
    """Figures by the names of their files, and what is amiss."""
    from maxent_rl.pictures import expert_pictures

    titles, remarks = (policy.env, _details(policy, len(trajectories))), _warnings(expertise)
    figures = {"timeline": expert_pictures.timeline(expertise, trajectories, titles)}
    if training := _training_rows(policy, run):
        figures["usage"] = expert_pictures.usage(training, (policy.env, _member(policy)))
    else:
        remarks.append(f"{run} holds no router metrics of this policy's training: usage.png is not drawn.")
    if np.ptp(expertise.observation, axis=0).max() > 0:
        figures["states"] = expert_pictures.states(expertise, trajectories, titles)
    else:
        remarks.append(f"All states of {policy.env} are the same: states.png is not drawn.")
    return figures, remarks


def _warnings(expertise: Expertise) -> list[str]:
    remarks = []
    if not expertise.draws:
        remarks.append(
            "This router mixes all experts into one action and chooses none: weights are shown, and an expert counts as in "
            "charge where its weight is the largest."
        )
    if expertise.collapsed is not None:
        remarks.append(
            f"The router has collapsed: expert {expertise.collapsed} holds over {COLLAPSED:.0%} of its weight, so the policy "
            "is as good as one expert (docs/experts.md says what to try)."
        )
    return remarks


def _without_experts(policy: Policy, run: Path) -> str:
    name = agent_name(policy.agent)
    if isinstance(policy.agent, HasExperts):
        return f"The policy in {run} has a single expert (agent {name}): train it with --num-experts 2 or more"
    return f"The policy in {run} is of agent {name}, which has no experts to look at: train one with --agent pmoe"


def _member(policy: Policy) -> str:
    return f"{agent_name(policy.agent)}  ·  {member_name({'seed': policy.seed, **policy.variant}).lower()}"


def _details(policy: Policy, episodes: int) -> str:
    played = "1 episode" if episodes == 1 else f"{episodes:,} episodes"
    return f"{_member(policy)}  ·  after {policy.step:,} steps  ·  {played}"
