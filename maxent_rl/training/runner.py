"""`train()`: from an agent's and an environment's name to a run's folder with curves, checkpoints and a policy.

The loops train; this decides when to log, evaluate and save, and records what comes out. It knows no particular agent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from maxent_rl.agents.base import Agent, PreparesFromData, check_kind
from maxent_rl.agents.registry import AGENTS, agent_class, agent_name, run_defaults
from maxent_rl.envs.env import Env
from maxent_rl.envs.registry import canonical_name, check_named, has_name, loads_slowly
from maxent_rl.errors import (
    CheckpointError,
    EnvironmentFailedError,
    IncompatibleEnvironmentError,
    InvalidSettingError,
    NonFiniteError,
    ProcessError,
    StorageError,
)
from maxent_rl.pictures.learning_curve import draw_curves
from maxent_rl.playing.evaluation import Outcomes
from maxent_rl.runs.checkpoints import Checkpoints
from maxent_rl.runs.config import (
    RunConfig,
    agent_from,
    config_from,
    default_name,
    describe,
    method_name,
    read_config,
    run_folder,
    run_from,
)
from maxent_rl.runs.new_folder import NewFolder, check_new_folder
from maxent_rl.runs.policy import Policy, export_policy, load_policy, policy_arrays
from maxent_rl.runs.records import Recorder, check_records
from maxent_rl.seeds.processes import Processes, divide, join
from maxent_rl.seeds.variants import variant_name
from maxent_rl.settings import as_declared, unknown_setting
from maxent_rl.sources.load import check_source, load_data
from maxent_rl.storage.arrays import from_arrays, pack, to_arrays, unpack
from maxent_rl.storage.files import as_path, first_line, write_json
from maxent_rl.storage.lock import only_one
from maxent_rl.storage.reading import refuse_damage
from maxent_rl.training.compilation import enable_compilation_cache
from maxent_rl.training.display import Display, loading
from maxent_rl.training.interrupts import catch_interrupts
from maxent_rl.training.loops.make import Loop, learns_nothing, make_loop, plan_loop
from maxent_rl.training.loops.size import Room
from maxent_rl.types import PyTree
from maxent_rl.usage import changed

_SECONDS_BETWEEN_PLOTS = 30.0
_COMPILING = "compiling the training step (first run of these shapes)"
_EVALUATING = "playing the first evaluation"


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a training left.

    Attributes:
      folder: the run's folder.
      agent: the agent with its hyper-parameters.
      states: agent states with leading axis [seed]; with variants, all seeds of the first, then of the next. Of several
        processes each has those that it trained.
      step: environment steps of each seed.
      evaluations: environment step and outcomes (one per seed and variant) of every evaluation of this call.
      interrupted: whether a signal ended it before its last step.
    """

    folder: Path
    agent: Any
    states: PyTree
    step: int
    evaluations: list[tuple[int, list[Outcomes]]]
    interrupted: bool

    def policy(self, seed: int | None = None, variant: int | None = None) -> Policy:
        """The exported policy of one seed and variant (the first, if None)."""
        return load_policy(self.folder, seed=seed, agent=type(self.agent), variant=variant)


def train(
    agent: str | Any = "sac",
    env: Env = "HalfCheetah",
    *,
    progress: bool = True,
    **settings: Any,
) -> TrainResult:
    """Trains an agent.

    Args:
      agent: a registered name (its defaults then apply) or an agent, such as `SAC(learning_rate=1e-3)`.
      env: an environment's name, a function that makes a Gymnasium environment, or a device environment.
      progress: show a live display (plain lines where there is no terminal).
      **settings: of `RunConfig`: seed, num_seeds, total_steps, num_envs, eval_every, output_dir, ...

    Returns:
      The run's folder, the trained states and all evaluations.

    Raises:
      MaxentRLError: one of its kinds, with one sentence that says what to do.
    """
    known = {field.name for field in dataclasses.fields(RunConfig)} - {"agent", "env"}
    for name in settings:
        if name not in known:
            hint = "Hyper-parameters belong to the agent: train(SAC(learning_rate=1e-3), ...)."
            raise unknown_setting("setting", name, known, hint)
    if isinstance(agent, str) and agent not in AGENTS and has_name(agent):
        raise InvalidSettingError(
            f"train takes the agent first, then the environment, got the environment {agent!r} first."
        )
    built = agent_class(agent)() if isinstance(agent, str) else agent
    check_kind(built)
    name = agent if isinstance(agent, str) else agent_name(agent)
    run = RunConfig(agent=name, **(run_defaults(built) | {"env": _env_name(env, settings.get("backend"))} | settings))
    by_hand = (*settings, *(changed(built) if built is agent else ()))
    return run_training(run, built, env, progress=progress, by_hand=by_hand)


def resume(
    folder: str | Path,
    *,
    total_steps: int | None = None,
    from_step: int | None = None,
    agent: type[Any] | None = None,
    env: Env | None = None,
    progress: bool = True,
) -> TrainResult:
    """Goes on with a run from its last checkpoint, to the same numbers as one never stopped.

    A run that ended before its first checkpoint begins anew in its folder, from its own configuration.

    Args:
      folder: the run's folder.
      total_steps: train up to this many environment steps instead of the run's own number.
      from_step: of the checkpoint to go on from; None for the newest. Later ones are moved to a folder beside.
      agent: the agent's class, where it is not a registered one.
      env: the environment, where it was not given by name.
      progress: as for `train`.

    Raises:
      CheckpointError: there is no run, or its checkpoint is damaged.
      StorageError: another process is running it.
      InvalidSettingError: `agent` is not the class of the run's agent, or `env` is missing.
    """
    config = read_config(folder)
    run, built = config_from(config) if agent is None else (run_from(config), agent_from(agent, config))
    if total_steps is not None:
        run = dataclasses.replace(run, total_steps=total_steps)
    if env is None:
        check_named(run.env, f"The run in {folder}")
    folder = as_path(folder, "a run's folder")
    env = run.env if env is None else env
    return run_training(run, built, env, progress=progress, resume=folder, from_step=from_step)


def run_training(
    run: RunConfig,
    agent: Agent[Any],
    env: Env,
    *,
    progress: bool = True,
    resume: Path | None = None,
    from_step: int | None = None,
    by_hand: Sequence[str] = (),
) -> TrainResult:
    """Trains with settings given as one value; `train` and the command line come down to this.

    Args:
      run: settings.
      agent: the agent.
      env: as for `train`.
      progress: as for `train`.
      resume: folder of the run to go on with, or None to begin one.
      from_step: as for `resume`.
      by_hand: the settings that somebody gave, of which none may be without effect.
    """
    run.check()
    enable_compilation_cache()
    devices = _devices(run.device)
    processes = Processes()
    slow = isinstance(env, str) and loads_slowly(env)
    with jax.default_device(devices[0]), contextlib.ExitStack() as held:
        with processes.together(), loading(run.env, enabled=progress and processes.first, told=slow):
            agent = _checked(run, agent, resume)
            if resume is not None and processes.first:
                held.enter_context(_lock(resume))
            loop = make_loop(run, agent, env, devices, processes, load_data, by_hand)
        try:
            if resume is None or not _has_checkpoint(resume):
                with processes.together():
                    loop.open()
            return Training(run, agent, loop, progress, resume, processes, held, from_step).run()
        finally:
            loop.close()


def check_run(
    run: RunConfig, agent: Agent[Any], env: Env, *, resume: Path | None = None, by_hand: Sequence[str] = ()
) -> str | None:
    """Refuses all that `run_training` would refuse before its first step; compiles, trains and writes nothing.

    Arguments and errors are those of `run_training`. Data is read, a teacher played.

    Returns:
      What a user should know of the run: a sentence or two, with the memory that it takes, or None.
    """
    run.check()
    devices = _devices(run.device)
    with jax.default_device(devices[0]):
        agent = _checked(run, agent, resume)
        planned = plan_loop(run, agent, env, devices, load=load_data, by_hand=by_hand)
        try:
            if isinstance(agent, PreparesFromData):
                load_data(run, agent, planned.learning.spec, None)
        finally:
            planned.close()
    size = None if planned.size is None else f"It takes at least {planned.size}; {Room.of(devices)} are free."
    return " ".join(filter(None, (learns_nothing(run, agent, planned.learning), size))) or None


def _checked(run: RunConfig, agent: Any, resume: Path | None) -> Any:
    """The agent, with its numbers as they are declared, once all has been refused that can be before anything is loaded."""
    check_kind(agent)
    check_source(run, agent)
    check_records(run.wandb)
    if resume is None:
        check_new_folder(
            run_folder(run, run.name or "")
        )  # one without a name gets a folder in there, whatever is there
    return _with_schedule(run, as_declared(agent))


def _with_schedule(run: RunConfig, agent: Any) -> Any:
    """The agent, whose learning rates go down over all updates of the run where it does not say over how many.

    Its settings then have the number: a run that is made longer later goes on with the rates that it had.
    """
    if getattr(agent, "learning_rate_schedule", "constant") == "constant" or agent.scheduled_updates is not None:
        return agent
    updates = agent.updates_of(run.total_steps)
    return agent if updates is None else dataclasses.replace(agent, scheduled_updates=max(round(updates), 1))


class Training:
    """One call of `train`: the loop, and everything that records it.

    Of several processes each has a loop with its share of the members. They take the same steps here, and tell each other
    what came out before the first one records it.
    """

    def __init__(
        self,
        run: RunConfig,
        agent: Agent[Any],
        loop: Loop,
        progress: bool,
        resume: Path | None,
        processes: Processes,
        held: contextlib.ExitStack,
        from_step: int | None,
    ) -> None:
        self._run, self._agent, self._loop, self._processes = run, agent, loop, processes
        self._progress = progress and processes.first
        self._description = describe(run, agent)
        self._held = held  # the lock on the run's folder, until the call ends
        # One that was killed before its first checkpoint begins anew, in the folder that it has.
        self._in_old_folder, self._resumed = resume is not None, resume is not None and _has_checkpoint(resume)
        self._folder = Path() if resume is None else resume  # of a run that begins: made once all has been prepared
        self._new_folder: NewFolder | None = None
        self._from_step = from_step
        self._rows_before: dict[str, int] | None = None  # of the tables, at the checkpoint that is gone on from
        self._evaluations: list[tuple[int, list[Outcomes]]] = []
        self._best = -math.inf
        self._seconds_before, self._started = 0.0, time.monotonic()
        self._last_plot = -math.inf
        self._last_log = (loop.step, self._started)
        self._saved_step: int | None = None
        num_envs = run.num_envs
        self._total = math.ceil(run.total_steps / num_envs)
        every = (run.log_period, run.eval_every, run.checkpoint_every)
        self._log_every, self._eval_every, self._save_every = (math.ceil(steps / num_envs) for steps in every)

    def run(self) -> TrainResult:
        """Trains to the end or to an interrupt."""
        told = None if self._resumed else self._begin()
        try:
            self._run_in_folder(told)
        except BaseException as error:
            if self._new_folder is not None and not self._recorded:
                self._new_folder.discard()
            elif isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(f"Stopped at once. {self._last_saved()}") from None
            elif isinstance(error, StorageError):  # a full disk above all
                raise StorageError(f"{error} {self._last_saved('once there is space, ')}") from error
            elif isinstance(error, ProcessError):
                raise ProcessError(f"{error} {self._after_a_loss()}") from error
            raise
        done = self._loop.step >= self._total
        states = self._loop.learner.seeds.agent
        return TrainResult(self._folder, self._agent, states, self._env_step, self._evaluations, not done)

    @property
    def _env_step(self) -> int:
        return self._loop.step * self._run.num_envs

    def _begin(self) -> str | None:
        """Prepares all that can fail, then makes the folder; a sentence on how the agent prepared itself."""
        made = ""
        with self._processes.together():
            told = self._prepare()
            self._loop.start()
            if self._in_old_folder:
                return told
            if self._processes.first:
                name = self._run.name or default_name(self._run, self._agent)
                self._new_folder = NewFolder(run_folder(self._run, name), numbered=self._run.name is None)
                self._held.enter_context(_lock(self._new_folder.path))
                made = str(self._new_folder.path)
        self._folder = Path(self._processes.gather(made)[0])
        return told

    def _run_in_folder(self, told: str | None) -> None:
        """Trains, and records it in the folder; begins with what has been told so far."""
        self._processes.advise(self._after_a_loss)
        together = self._processes.together
        with together():
            self._checkpoints = Checkpoints(self._folder / "checkpoints", self._run.keep_checkpoints, self._processes)
        try:
            with together():
                if self._resumed:
                    told = self._restore()
                elif self._in_old_folder:
                    self._checkpoints.forget_after(0)
                    begun = f"{self._folder} has no checkpoint yet: the run begins anew."
                    told = begun if told is None else f"{begun} {told}"
                self._write_config()
            with contextlib.ExitStack() as stack:
                with together():
                    self._recorder = stack.enter_context(self._make_recorder()) if self._processes.first else None
                self._display = stack.enter_context(self._make_display())
                remarks = [] if self._recorder is None else self._recorder.remarks
                for sentence in filter(
                    None, (told, *remarks, learns_nothing(self._run, self._agent, self._loop.learning))
                ):
                    self._display.message(sentence)
                with catch_interrupts(self._display.message) as interrupted:
                    self._train(interrupted)
        except (NonFiniteError, IncompatibleEnvironmentError, EnvironmentFailedError) as error:
            raise type(error)(f"{error} {self._last_good()}") from error.__cause__ or error
        except StorageError:
            with contextlib.suppress(StorageError):  # what could not be written is said already
                self._checkpoints.close()
            raise
        finally:
            self._checkpoints.close()

    @property
    def _recorded(self) -> bool:
        """Whether anything of this run is worth keeping."""
        return self._saved_step is not None or bool(self._evaluations) or self._last_log[0] > 0

    def _prepare(self) -> str | None:
        """Lets the agent prepare itself where it is one that does; a sentence that says how well that went."""
        if not isinstance(self._agent, PreparesFromData):
            return None
        found = self._loop.prepare(*load_data(self._run, self._agent, self._loop.learning.spec, None))
        told = ", ".join(
            f"{name.replace('_', ' ')} {' '.join(f'{member[name]:.3g}' for member in found)}" for name in found[0]
        )
        return f"Prepared from {self._run.dataset}: {told}."

    def _restore(self) -> str | None:
        steps = self._checkpoints.steps()
        step = steps[-1] if self._from_step is None else self._from_step
        if step not in steps:
            raise CheckpointError(f"{self._folder} has checkpoints of the steps {steps}, not of --from-step {step}.")
        with self._processes.together():
            exact = self._read(step)
        # Nothing is moved or deleted before every process has read, or where one of them could not.
        aside = self._checkpoints.forget_after(step)
        self._saved_step = step
        self._last_log = (self._loop.step, time.monotonic())
        told = [f"What came after step {step} was moved to {aside}."] if aside is not None else []
        told += [] if exact else ["The state of these environments cannot be saved: new episodes were started."]
        return " ".join(told) or None

    def _read(self, step: int) -> bool:
        """Takes the state of a checkpoint; False if new episodes had to be started."""
        loop = self._loop
        try:
            arrays, meta = self._checkpoints.restore(step)
            if lost := {"fingerprint", "best", "seconds"} - set(meta):
                raise CheckpointError(
                    f"The checkpoint of step {step} in {self._folder} is damaged: it has no {min(lost)}."
                )
            is_foreign = meta["fingerprint"] != self._fingerprint()
            # Of another run no row fits, and no older checkpoint would.
            rows = (
                loop.learner.seeds.rows if is_foreign else self._checkpoints.restore_rows(step, loop.learner.seeds.rows)
            )
        except CheckpointError as error:
            raise CheckpointError(f"{error} {self._older_whole(step)}") from error
        with refuse_damage(f"The checkpoint of step {step} in {self._folder}", CheckpointError):
            try:
                if is_foreign:
                    raise CheckpointError("it belongs to another agent, environment or number of seeds")
                env_state = unpack(arrays.pop("env_state")) if "env_state" in arrays else None
                env_state = divide(env_state, self._processes)
                state = from_arrays(loop.get_state(), self._processes.share_arrays(arrays))
            except (CheckpointError, KeyError, ValueError) as error:
                raise CheckpointError(
                    f"The checkpoint of step {step} in {self._folder} does not fit: {error}"
                ) from error
            self._rows_before = {name: int(rows) for name, rows in meta.get("rows", {}).items()}
            self._best, self._seconds_before = float(meta["best"]), float(meta["seconds"])
            return loop.set_state(state, env_state, rows, step // self._run.num_envs)

    def _older_whole(self, step: int) -> str:
        """What can be gone on from where the checkpoint of a step cannot."""
        older = self._checkpoints.newest_whole(self._loop.learner.seeds.rows.shape[1], before=step)
        if older is None:
            return "No older checkpoint is whole: begin the run anew (--config RUN)."
        return f"That of step {older} is whole: go on from it with --resume {self._folder} --from-step {older}."

    def _write_config(self) -> None:
        if self._processes.first:
            write_json(self._folder / "config.json", self._description)

    def _make_recorder(self) -> Recorder:
        return Recorder(
            self._folder,
            config=self._description,
            wandb_project=self._run.wandb,
            resume_step=self._env_step if self._in_old_folder else None,
            varied=tuple(self._run.variants),
            expected_rows=self._rows_before,
        )

    def _make_display(self) -> Display:
        title = f"{method_name(self._description)} on {self._run.env}"
        names = [variant_name(variant) for variant in self._run.variant_values] if self._run.variants else []
        return Display(
            self._run.total_steps, self._run.seeds, title, self._env_step, variants=names, enabled=self._progress
        )

    def _train(self, interrupted: Callable[[], bool]) -> None:
        loop, processes = self._loop, self._processes
        # Several processes must stop at the same step: they ask each other between chunks, and none stops within one.
        asked = interrupted if processes.count == 1 else lambda: False
        compiled = False
        while loop.step < self._total and not any(processes.gather(interrupted())):
            every = [period for period in (self._log_every, self._eval_every, self._save_every) if period]
            until = min([self._total, *((loop.step // period + 1) * period for period in every)])
            with processes.together():
                if not compiled:  # by a first step by itself, of whatever length the others are
                    with self._display.doing(_COMPILING):
                        loop.advance(loop.step + 1, asked)
                    compiled = True
                loop.advance(until, asked)
                loop.check()
            for sentence in loop.take_remarks():
                self._display.message(sentence)
            last = loop.step == self._total
            if last or loop.step % self._log_every == 0:
                self._log()
            improved = None
            if self._run.eval_episodes and (last or (self._eval_every and loop.step % self._eval_every == 0)):
                improved = self._evaluate()
            if last or improved is not None or (self._save_every and loop.step % self._save_every == 0):
                self._save(improved)
        if self._saved_step != self._env_step:
            self._save(None)
        with processes.together():
            self._checkpoints.wait()

    def _log(self) -> None:
        now, (step, then) = time.monotonic(), self._last_log
        speed = (self._loop.step - step) * self._run.num_envs / max(now - then, 1e-9)
        self._last_log = (self._loop.step, now)
        timing = {"seconds": round(self._seconds, 3), "steps_per_second": round(speed, 2)}
        updates = {"updates": int(self._loop.learner.counters.update)}
        metrics = join(self._processes.gather(self._loop.take_metrics()))
        rows = [member | timing | updates | row for member, row in zip(self._run.members, metrics, strict=True)]
        with self._processes.together():
            if self._recorder is not None:
                self._recorder.metrics(self._env_step, rows)
            self._display.update(self._env_step, rows)

    def _evaluate(self) -> float | None:
        """Evaluates and records; returns the mean return over all seeds and variants if it is the best so far."""
        first = contextlib.nullcontext() if self._evaluations else self._display.doing(_EVALUATING)
        with self._processes.together(), first:
            own = self._loop.evaluate(self._run.eval_episodes)
        told = join(self._processes.gather([dataclasses.asdict(outcome) for outcome in own]))
        outcomes = [Outcomes(**outcome) for outcome in told]
        self._evaluations.append((self._env_step, outcomes))
        self._export()
        members = zip(self._run.members, outcomes, strict=True)
        rows = [{**member, **outcome.row(int(member["seed"]))} for member, outcome in members]
        with self._processes.together():
            if self._recorder is not None:
                self._recorder.evaluation(self._env_step, rows)
                if self._loop.step == self._total or time.monotonic() - self._last_plot > _SECONDS_BETWEEN_PLOTS:
                    self._draw_curves()
                    self._last_plot = time.monotonic()
            success = [outcome.extra.get("success_rate") for outcome in outcomes]
            self._display.evaluation(self._env_step, [outcome.mean for outcome in outcomes], success)
        mean = sum(outcome.mean for outcome in outcomes) / len(outcomes)
        if mean <= self._best:
            return None
        self._best = mean
        return mean

    def _draw_curves(self) -> None:
        try:
            draw_curves(self._folder)
        except Exception as error:  # such as a broken font, or style: no picture is worth the training that it shows
            self._display.message(f"The learning curve cannot be drawn: {first_line(error)}.")

    def _export(self) -> None:
        states = self._processes.gather_arrays(policy_arrays(self._agent, self._loop.learner.seeds.agent))
        with self._processes.together():
            if self._processes.first:
                spec = self._loop.learning.spec
                export_policy(self._folder / "policy", self._description, states, spec, self._env_step)

    def _save(self, evaluated: float | None) -> None:
        if not self._run.eval_episodes:  # where there are evaluations, the policy is that of the last one
            self._export()
        processes, buffers = self._processes, self._loop.learner.seeds.rows
        arrays = processes.gather_arrays(to_arrays(self._loop.get_state()))
        env_states = processes.gather(self._loop.get_env_state())
        if env_states[0] is not None:
            arrays["env_state"] = pack(join(env_states))
        meta = {"fingerprint": self._fingerprint(), "best": self._best, "seconds": self._seconds}
        meta |= {} if self._recorder is None else {"rows": self._recorder.row_counts()}
        rows = processes.gather_arrays({"rows": self._checkpoints.new_rows(self._env_step, buffers)})["rows"]
        with processes.together():
            if processes.first:
                self._checkpoints.save(self._env_step, arrays, meta, rows, buffers.shape[1], evaluated)
        self._saved_step = self._env_step

    @property
    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _fingerprint(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to fit."""
        names = ("agent", "env", "backend", "seed", "num_seeds", "num_envs")
        varied = {"variants": {name: list(values) for name, values in self._run.variants.items()}}
        fitting: dict[str, Any] = {name: self._description["run"][name] for name in names}
        return fitting | (varied if self._run.variants else {})

    def _last_good(self) -> str:
        if not self._processes.first:
            return "The first process says which checkpoint is the last good one."
        where = self._folder / "checkpoints"
        if not self._checkpoints.steps():
            return "No checkpoint was saved."
        good = self._checkpoints.newest_whole(self._loop.learner.seeds.rows.shape[1])
        if good is None:
            return f"No checkpoint in {where} is whole and without NaN or infinity in its replay rows."
        return f"The last good checkpoint is that of step {good} in {where}."

    def _after_a_loss(self) -> str:
        return self._last_saved("start the processes again and ")

    def _last_saved(self, first: str = "") -> str:
        """What is safe where a run ends at once, and how to go on."""
        steps = _saved_steps(self._folder)
        if not steps:
            return f"No checkpoint was saved; --resume {self._folder} begins the run anew."
        return f"The checkpoint of step {steps[-1]} is safe: {first}go on with --resume {self._folder}."


def _saved_steps(folder: Path) -> list[int]:
    """The steps of a run's checkpoints, by the names of their folders alone."""
    return sorted(int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdecimal())


def _has_checkpoint(folder: Path) -> bool:
    return bool(_saved_steps(folder))


def _lock(folder: Path) -> contextlib.AbstractContextManager[None]:
    return only_one(folder / "run.lock", f"The run in {folder}", "wait until that has ended, or stop it")


def _env_name(env: Env, backend: str | None = None) -> str:
    if isinstance(env, str):
        return canonical_name(env, backend)
    made_by = getattr(env, "func", env)  # a functools.partial is named after its function
    name = str(getattr(made_by, "__name__", type(made_by).__name__))
    return name if name.isidentifier() else "custom"


def _devices(kind: str) -> list[jax.Device]:
    """The local devices of a kind.

    Raises:
      InvalidSettingError: there are none.
    """
    try:
        devices: list[jax.Device] = jax.local_devices(backend=None if kind == "auto" else kind)
        return devices
    except RuntimeError as error:
        raise InvalidSettingError(
            f"--device {kind}: JAX finds no such device here (it finds {jax.default_backend()}). "
            'For an NVIDIA GPU: pip install -U "jax[cuda13]".'
        ) from error
