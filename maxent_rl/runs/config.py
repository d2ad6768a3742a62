"""What a run is: its settings, and config.json, which repeats it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import sys
import time
import typing
from pathlib import Path
from typing import Any, Literal

from maxent_rl.agents.registry import AGENTS, agent_class, agent_name, run_defaults
from maxent_rl.errors import CheckpointError, InvalidSettingError, unknown_name
from maxent_rl.seeds.variants import variant_values
from maxent_rl.settings import (
    Count,
    Interval,
    NonNegative,
    Settings,
    check_settings,
    declared_changes,
    setting,
    unknown_setting,
)
from maxent_rl.storage.files import as_path, first_line
from maxent_rl.storage.reading import read_json, refuse_damage
from maxent_rl.usage import ON_HOST, above

_PACKAGES = (
    *("maxent_rl", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"),
    *("gymnasium", "mujoco", "mujoco-mjx", "brax", "playground", "envpool", "gymnasium-robotics"),
)
_MOST_LOGGED, _LOGGED_VECTOR_STEPS, _LEAST_LINES = 1_000, 20, 10
_SEEDS = typing.Annotated[int, Interval(0, 2**31 - 1)]


@dataclasses.dataclass(frozen=True)
class RunConfig(Settings):
    """Settings of a run, whatever the agent."""

    agent: str = "sac"
    """Name of the agent."""
    env: str = "HalfCheetah"
    """Environment: a Gymnasium id (HalfCheetah, Pendulum-v1, ...), brax/NAME, playground/NAME, envpool/ID or tokens/TASK."""
    teacher: str | None = None
    """Run (or policy folder) whose trained policy an agent such as adpo learns from."""
    dataset: str | None = None
    """Data to learn from, for agents that learn offline."""
    backend: str | None = None
    """Physics of a Brax environment: spring, positional, generalized or mjx; None for the environment's default."""
    seed: _SEEDS = 0
    """First seed; everything random follows from it."""
    num_seeds: Count = 1
    """Seeds trained at once: seed, seed + 1, ..."""
    total_steps: Count = 100_000
    """Environment steps of each seed."""
    num_envs: Count = 1
    """Environments that each seed steps side by side."""
    eval_every: NonNegative = setting(5_000, used_when=above(eval_episodes=0))
    """Environment steps between evaluations; 0 evaluates only at the end."""
    eval_episodes: NonNegative = 10
    """Episodes of each seed in an evaluation; 0 for no evaluation at all, nor environments for it."""
    eval_num_envs: Count | None = setting(None, used_when=above(eval_episodes=0) & ON_HOST)
    """Host environments that each seed is evaluated in side by side, on which no number depends; None for all episodes, 64 of
    all seeds together at most, and for --num-envs where a function of one's own makes the environment."""
    max_episode_steps: Count | None = None
    """Steps after which an episode in a host environment is cut; None for its own limit, or 1,000 where it tells none."""
    stagger_episodes: bool = False
    """Cut the first episodes on the device at times that lie evenly apart: not all environments at once begin anew, ever."""
    checkpoint_every: NonNegative = 10_000
    """Environment steps between checkpoints; 0 saves only at the end and on an interrupt."""
    keep_checkpoints: Count = 2
    """Latest checkpoints that stay; the best by evaluation stays besides."""
    log_every: Count | None = None
    """Environment steps between lines of metrics.csv; None for 1,000, or 20 steps of all environments where that is more, and
    for ten lines in a run at least."""
    output_dir: str = "runs"
    """Folder under which the run's folder OUTPUT_DIR/ENV/AGENT/NAME is made."""
    name: str | None = None
    """Name of the run's folder; None for its seeds and the time, after the objective of a language model."""
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where to compute; auto takes an accelerator if JAX finds one."""
    batch_devices: Count = 1
    """Devices that share each batch, for large ones; the others share the seeds."""
    wandb: str | None = None
    """Weights & Biases project to report to (needs the wandb extra); None for none."""
    variants: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    """Numeric hyper-parameters with a value for each variant: all variants train at once, each with all seeds."""

    def __post_init__(self) -> None:
        if isinstance(self.variants, dict):  # config.json gives lists, the command line names with dashes
            variants = {str(name).replace("-", "_"): _values(values) for name, values in self.variants.items()}
            object.__setattr__(self, "variants", variants)
        for name, value in declared_changes(self).items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, agent: str, **settings: Any) -> RunConfig:
        """Settings for an agent, which may have defaults of its own (`run_defaults`), with some of them given."""
        return cls(agent=agent, **(run_defaults(agent_class(agent)) | settings))

    @property
    def log_period(self) -> int:
        """Environment steps between lines of metrics.csv, as `log_every` says or leaves open."""
        if self.log_every is not None:
            return self.log_every
        most = max(_MOST_LOGGED, _LOGGED_VECTOR_STEPS * self.num_envs)
        return max(min(most, self.total_steps // _LEAST_LINES), 1)

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds of the run."""
        return tuple(range(self.seed, self.seed + self.num_seeds))

    @property
    def variant_values(self) -> list[dict[str, float]]:
        """What each variant sets, in order; a single empty one where nothing varies."""
        return variant_values(self.variants)

    @property
    def members(self) -> list[dict[str, float]]:
        """What trains side by side: every seed of every variant, as the first columns of the tables name it."""
        return [{"seed": seed} | variant for variant in self.variant_values for seed in self.seeds]

    def check(self) -> None:
        """Refuses impossible numbers.

        Raises:
          InvalidSettingError: naming the setting.
          UnknownNameError: for a device that does not exist.
        """
        check_settings(self)
        counts = {len(values) for values in self.variants.values()}
        if len(counts) > 1 or 0 in counts:
            raise InvalidSettingError(
                "--variants needs the same number of values for every hyper-parameter, at least one."
            )
        if self.total_steps >= 2**31:
            raise InvalidSettingError(
                f"--total-steps must be less than 2,147,483,648 (counters have 32 bits), got {self.total_steps:,}."
            )
        if self.seed + self.num_seeds > 2**31:
            raise InvalidSettingError(
                f"Seeds must be less than 2,147,483,648: --seed is {self.seed:,}, and --num-seeds {self.num_seeds:,}."
            )
        if self.total_steps < self.num_envs:
            raise InvalidSettingError(
                f"--total-steps ({self.total_steps}) must be at least --num-envs ({self.num_envs}): "
                "one step of all environments is the least that can be taken."
            )
        if self.name is not None and (
            self.name in ("", "..") or "\0" in self.name or Path(self.name).name != self.name
        ):
            raise InvalidSettingError(f"--name must be a plain folder name, got {self.name!r}.")


def run_folder(run: RunConfig, name: str) -> Path:
    """Where a run of that name lies: OUTPUT_DIR/ENV/AGENT/NAME."""
    return Path(run.output_dir) / run.env.replace("/", "-") / run.agent / name


def default_name(run: RunConfig, agent: Any) -> str:
    """The name of a run that has none: its seeds and the time, after the objective where the agent's name does not say it."""
    seeds = f"seed{run.seed}" if run.num_seeds == 1 else f"seeds{run.seeds[0]}-{run.seeds[-1]}"
    objective = _objective(run.agent, getattr(agent, "objective", None))
    return "-".join([*objective, seeds, time.strftime("%Y%m%d-%H%M%S")])


def method_name(config: dict[str, Any]) -> str:
    """What learned, for titles, from `read_config`: `sac`, `grpo`, or `lm · clip_cov` where there is an objective to name."""
    agent = str(config["run"]["agent"])
    return " · ".join([agent, *_objective(agent, config["agent"].get("objective"))])


def _objective(agent: str, objective: Any) -> list[str]:
    return [objective] if isinstance(objective, str) and objective != agent else []


def describe(run: RunConfig, agent: Any) -> dict[str, Any]:
    """Everything that config.json says: settings, hyper-parameters, package versions, hardware in plain terms."""
    return {
        "run": dataclasses.asdict(run),
        "agent": dataclasses.asdict(agent),
        "versions": {"python": platform.python_version(), **_versions()},
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "system": platform.system()},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def read_config(path: str | Path) -> dict[str, Any]:
    """Reads a run's config.json.

    Args:
      path: the file, or the run's folder.

    Raises:
      CheckpointError: it is missing or not such a file.
    """
    file = as_path(path, "a run's folder")
    file = file / "config.json" if file.is_dir() else file
    try:
        config = read_json(file)
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no run at {path}: {file} does not exist.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read as a run's configuration: {first_line(error)}.") from error
    if not isinstance(config, dict) or not isinstance(config.get("run"), dict) or "agent" not in config:
        raise CheckpointError(f"{file} is not a run's configuration: it has no 'run' and 'agent'.")
    return config


def config_from(config: dict[str, Any]) -> tuple[RunConfig, Any]:
    """Rebuilds settings and agent from `read_config`; the agent must be a registered one.

    Raises:
      UnknownNameError: an agent or a setting that this version does not have.
    """
    run = run_from(config)
    name: Any = run.agent  # of a file, whatever it says
    if not isinstance(name, str) or name not in AGENTS:
        hint = "A run of an agent of one's own goes on in Python, with its class: resume(folder, agent=CLASS)."
        raise unknown_name("agent", name, AGENTS, hint)
    return run, agent_from(agent_class(run.agent), config)


def run_from(config: dict[str, Any]) -> RunConfig:
    """Rebuilds the settings of `read_config`."""
    run: RunConfig = _build(RunConfig, config["run"])
    return run


def agent_from(kind: Any, config: dict[str, Any]) -> Any:
    """Rebuilds an agent with the hyper-parameters of `read_config`.

    Args:
      kind: the agent's class.
      config: as from `read_config`.

    Raises:
      InvalidSettingError: `kind` is no class, or that of another agent.
      UnknownNameError: a hyper-parameter that the class does not have.
    """
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
        name = type(kind).__name__
        given = f"an instance: pass {name}" if dataclasses.is_dataclass(kind) else repr(kind)
        raise InvalidSettingError(
            f"agent= takes the agent's class, as its hyper-parameters are those of the run, got {given}."
        )
    name = config["run"].get("agent")
    if kind is not agent_class(name) if name in AGENTS else agent_name(kind) in AGENTS:
        raise InvalidSettingError(f"The run is one of the agent {name!r}, not of {kind.__name__}: leave agent= out.")
    return _build(kind, config["agent"])


def _build(kind: type[Any], values: dict[str, Any]) -> Any:
    """A dataclass of a file's values; whoever uses it checks their types and bounds."""
    with refuse_damage(f"The configuration of {kind.__name__}", CheckpointError):
        return _built(kind, values)


def _built(kind: type[Any], values: dict[str, Any]) -> Any:
    values = kind.of_before(values) if hasattr(kind, "of_before") else values
    names = {field.name for field in dataclasses.fields(kind)}
    for name in values:
        if name not in names:
            raise unknown_setting(f"setting of {kind.__name__}", name, names)
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _values(values: Any) -> Any:
    return tuple(values) if isinstance(values, (list, tuple)) else values


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
