"""The study's table: what each run reached, halfway and at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.lab.measure import show_number
from benchmarks.lab.statistics import show_interquartile
from benchmarks.lab.study import Results, runs_of
from benchmarks.lab.tables import markdown
from benchmarks.studies.learning.setting import RUNS, config_of

_PICTURES = {
    "sac-HalfCheetah-v5-100k/learning_curve.png": "Return of SAC on HalfCheetah-v5 over 100,000 steps",
    "ppo-HalfCheetah-v5-1M/learning_curve.png": "Return of PPO on HalfCheetah-v5 over a million steps",
    "grpo-modular-addition/token_curves.png": "Reward, pass@1 and pass@8, entropy and length over 2.6 million responses",
}


def tables(results: Results) -> str:
    """Interquartile means and each seed's return, a line for each run."""
    result, rows = results["learning"], []
    for name in RUNS:
        for env in dict.fromkeys(run["env"] for run in result["runs"]):
            runs = [run for run in runs_of(result["runs"], env, name) if "error" not in run]
            if runs:
                values = {metric: [run["values"][metric] for run in runs] for metric in runs[0]["values"]}
                steps, agent = show_number(values["steps"][0]), config_of(name)["run"]["agent"]
                agent += " of the paper" if "-paper-" in name else ""
                last, half = values["last"], values["half"]
                cells = [show_interquartile([half]), show_interquartile([last]), _each(last)]
                rows.append([f"[{agent}](results/{name})", env, steps, *cells])
    head = ["agent", "environment", "steps", "halfway", "at the end", "each seed at the end"]
    return (
        f"{markdown(head, rows, texts=2)}\n\nReturns of the most likely actions (of language models shares of right answers): "
        "interquartile means over seeds, in brackets 95 % intervals from the bootstrap over seeds; of fewer than four runs "
        "the interquartile mean is the mean."
    )


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """The curves that some of the runs drew themselves, and what they show."""
    return {shows: folder / path for path, shows in _PICTURES.items() if (folder / path).exists()}


def _each(values: Sequence[float]) -> str:
    return " ".join(show_number(value) for value in values)
