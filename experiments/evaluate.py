"""Evaluates a trained policy: `python experiments/evaluate.py runs/HalfCheetah-v5/sac/NAME --episodes 20`."""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from rich.console import Console
from rich.table import Table

from maxent_rl.errors import run_command
from maxent_rl.runs.flags import read_flags, refuse_useless, with_rules
from maxent_rl.settings import Count, NonNegative, setting
from maxent_rl.usage import ON_HOST, above

if TYPE_CHECKING:
    from maxent_rl.pictures.transcripts import Group
    from maxent_rl.playing.evaluation import Outcomes
    from maxent_rl.runs.policy import Policy


@with_rules
@dataclasses.dataclass(frozen=True)
class Command:
    """Plays episodes with a run's trained policies, each seed's in the same start states."""

    run: tyro.conf.Positional[Path]
    """Folder of a run, or the policy folder in it."""
    episodes: Count = 20
    """Episodes of each seed."""
    seed: int | None = None
    """Evaluate only this seed of the run; None for all."""
    variant: int | None = None
    """Evaluate only this variant of the run's hyper-parameters, counted from 0; None for all."""
    video: Path | None = None
    """Also write the first episode of the first seed to this .mp4 (needs the video extra)."""
    picture: Path | None = None
    """Also draw the episodes over what lies in the environment's plane, to this .png, in a panel for each seed (environments
    with a `field_map`, such as maxent/BimodalCoverage)."""
    transcripts: NonNegative = 0
    """Also show what was said in this many episodes of each seed, turn by turn, and write it as a page that shows how unsure
    each token was (language models on tokens/... tasks)."""
    transcripts_page: Path | None = setting(None, used_when=above(transcripts=0))
    """Where that page is written; None for transcripts.html in the run's folder."""
    stochastic: bool = False
    """Sample actions instead of taking the most likely ones."""
    eval_seed: NonNegative = 0
    """Decides the start states, and the actions where they are sampled."""
    num_envs: Count | None = setting(None, used_when=ON_HOST)
    """Host environments that are open at once, on which no number depends; None for all episodes, 64 at most."""
    allow_env_import: bool = False
    """Import the module of an environment that the policy's files name module:Id; its code then runs."""
    json: bool = False
    """Print JSON instead of a table, every episode included."""


def main(arguments: list[str]) -> int:
    """Parses the command line, evaluates, and turns errors into one sentence; returns the exit status."""
    return run_command(_main, arguments, "Stopped before the evaluation was complete.")


def _main(arguments: list[str]) -> int:
    command = read_flags(Command, arguments, __doc__)

    from maxent_rl.envs.registry import canonical_name, is_device
    from maxent_rl.playing.evaluation import evaluate_policy
    from maxent_rl.runs.policy import load_policies

    policies = load_policies(command.run, command.seed, command.variant)
    if command.allow_env_import:
        for policy in policies:
            canonical_name(policy.env)
    refuse_useless(command, arguments, on_device=is_device(policies[0].env))

    found: list[Outcomes] = []
    # On standard error, so that standard output holds the result alone; shows nothing where that is no terminal.
    with Console(stderr=True).status("") as status:
        if command.video is not None:  # first, because it is the part that can lack something
            from maxent_rl.playing.video import record_video

            status.update(f"Recording {command.video}")
            record_video(policies[0], command.video, seed=command.eval_seed, stochastic=command.stochastic)
        if command.picture is not None:
            from maxent_rl.pictures.trajectories import picture_policies

            status.update(f"Drawing {command.picture}")
            how: dict[str, Any] = {"seed": command.eval_seed, "stochastic": command.stochastic}
            picture_policies(policies, command.picture, episodes=command.episodes, **how)
        if command.transcripts:
            status.update(f"Writing down what was said in {policies[0].env}")
        groups = _groups(command, policies)
        for policy in policies:
            status.update(f"{policy.env}, {policy.name}: playing {command.episodes} episodes")
            found.append(
                evaluate_policy(
                    policy,
                    command.episodes,
                    seed=command.eval_seed,
                    stochastic=command.stochastic,
                    num_envs=command.num_envs,
                )
            )
    result = _result(command, policies, found)
    if groups:
        result["transcripts_page"] = str(_write_page(command, policies, groups))
        for row, group in zip(result["seeds"], groups, strict=True):
            row["transcripts"] = [each.told() for each in group.transcripts]
    if command.json:
        print(json.dumps(result, indent=2))
    else:
        _tell(groups)
        _show(result)
    return 0


def _result(command: Command, policies: list[Policy], found: list[Outcomes]) -> dict[str, Any]:
    means = [outcomes.mean for outcomes in found]
    varied = list(policies[0].variant)
    return {
        **({"varied": varied} if varied else {}),
        "env": policies[0].env,
        "step": policies[0].step,
        "episodes": command.episodes,
        "eval_seed": command.eval_seed,
        "stochastic": command.stochastic,
        "seeds": [
            {**outcomes.row(policy.seed), **policy.variant, "returns": outcomes.returns, "lengths": outcomes.lengths}
            for policy, outcomes in zip(policies, found, strict=True)
        ],
        "return_mean": statistics.fmean(means),
        "return_std": statistics.pstdev(means),
        "video": None if command.video is None else str(command.video),
        "picture": None if command.picture is None else str(command.picture),
    }


def _groups(command: Command, policies: list[Policy]) -> list[Group]:
    """What each policy said, if that is asked for."""
    if not command.transcripts:
        return []
    from maxent_rl.pictures.transcripts import Group
    from maxent_rl.playing.transcripts import transcribe

    how: dict[str, Any] = {"seed": command.eval_seed, "stochastic": command.stochastic}
    return [Group(policy.name, transcribe(policy, command.transcripts, **how)) for policy in policies]


def _write_page(command: Command, policies: list[Policy], groups: list[Group]) -> Path:
    from maxent_rl.pictures.transcripts import write_transcripts

    folder = command.run.parent if command.run.name == "policy" else command.run
    path = folder / "transcripts.html" if command.transcripts_page is None else command.transcripts_page
    tokens = "sampled" if command.stochastic else "most likely"
    details = f"After {policies[0].step:,} steps, {tokens} tokens; the prompts are held out of training."
    return write_transcripts(path, f"Transcripts of {policies[0].env}", details, groups)


def _tell(groups: list[Group]) -> None:
    if not groups:
        return
    from maxent_rl.playing.transcripts import in_words

    console = Console()
    for group in groups:
        console.print(f"{group.title}:", highlight=False, markup=False)
        for number, transcript in enumerate(group.transcripts):
            console.print(in_words(transcript, number), highlight=False, markup=False, soft_wrap=True)
        console.print()


def _show(result: dict[str, Any]) -> None:
    played = "1 episode" if result["episodes"] == 1 else f"{result['episodes']:,} episodes"
    actions = "sampled" if result["stochastic"] else "most likely"
    table = Table(title=f"{result['env']} after {result['step']:,} steps: {played}, {actions} actions")
    varied = result.get("varied", [])
    solves = any("success_rate" in row for row in result["seeds"])
    for column in (*varied, "seed", "mean", "std", "min", "max", "length", *(["success"] if solves else [])):
        table.add_column(column, justify="right")
    for row in result["seeds"]:
        returns = (row[f"return_{name}"] for name in ("mean", "std", "min", "max"))
        table.add_row(
            *(f"{row[name]:g}" for name in varied),
            str(row["seed"]),
            *(f"{value:,.2f}" for value in returns),
            f"{row['length_mean']:,.1f}",
            *([f"{row['success_rate']:.0%}" if "success_rate" in row else ""] if solves else []),
        )
    console = Console()
    console.print(table)
    by_variant: dict[str, list[float]] = {}
    for row in result["seeds"]:
        by_variant.setdefault(", ".join(f"{name}={row[name]:g}" for name in varied), []).append(row["return_mean"])
    for name, means in by_variant.items():
        deviation = statistics.pstdev(means)
        spread = f", standard deviation between the {len(means)} seeds {deviation:,.2f}" if len(means) > 1 else ""
        start = f"{name}: mean return" if name else "Mean return"
        console.print(f"{start} {statistics.fmean(means):,.2f}{spread}", highlight=False)
    for kind in ("video", "picture", "transcripts_page"):
        if result.get(kind) is not None:
            console.print(
                f"{kind.capitalize().replace('_', ' ')}: {result[kind]}", highlight=False, markup=False, soft_wrap=True
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
