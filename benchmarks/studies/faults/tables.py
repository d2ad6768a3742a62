"""The study's tables: what killed runs ended in, what damaged inputs were answered, and what became of command lines."""

from __future__ import annotations

from benchmarks.lab.study import Result, Results
from benchmarks.lab.tables import markdown
from benchmarks.studies.faults.setting import COMMANDS, KINDS, RUNS


def tables(results: Results) -> str:
    """All that has been measured, part by part."""
    parts = {"kills": _kills, "commands": _commands, "inputs": _inputs}
    return "\n\n".join(show(results[part]) for part, show in parts.items() if part in results)


def _kills(result: Result) -> str:
    rows, counts = [], {"killed": 0, "writing": 0, "equal": 0, "all": 0}
    for name in RUNS:
        found = [run for run in result["runs"] if run["contender"] == name and "error" not in run]
        for run in found:
            steps = ", ".join(f"{kill['step']:,}" for kill in run["kills"])
            ended = "the same to the bit" if run["values"]["equal"] else run["difference"]
            rows.append([name, run["moment"], steps, ended])
            counts["all"] += 1
            counts["equal"] += int(run["values"]["equal"])
            counts["killed"] += len(run["kills"]) * (run["moment"] != "full disk")
            counts["writing"] += sum(kill["writing"] for kill in run["kills"]) * (run["moment"] != "full disk")
    told = next((run["said"] for run in result["runs"] if run.get("said")), "")
    return (
        f"### Kills and full disks\n\n{counts['equal']} of {counts['all']} runs end as the undisturbed one, after "
        f"{counts['killed']} kills, {counts['writing']} of them while a checkpoint was being written.\n\n"
        f"{markdown(['run', 'moment', 'last logged step', 'ended'], rows, texts=4)}\n\nOn a full disk: “{told}”"
    )


def _commands(result: Result) -> str:
    rows, wrong = [], []
    for name in COMMANDS:
        found = [run for run in result["runs"] if run["env"] == name and "error" not in run]
        if found:
            valid = sum(int(run["values"]["valid"]) for run in found)
            right = sum(int(run["values"]["right"]) for run in found)
            rows.append([name, str(len(found)), str(valid), str(right)])
            wrong += [f"- `{run['line'][:200]}`: {run['wrong']}" for run in found if run["wrong"]]
    table = markdown(["command", "lines", "of them right ones", "answered rightly"], rows)
    return "\n\n".join(["### Command lines", table, *(["\n".join(wrong)] if wrong else [])])


def _inputs(result: Result) -> str:
    rows, sentences, kept = [], 0, 0
    for kind in KINDS:
        found = [run for run in result["runs"] if run["env"] == kind and "error" not in run]
        rows += [[kind, run["input"], run["answer"].replace("|", "\\|")] for run in found]
        sentences += sum(int(run["values"]["sentence"]) for run in found)
        kept += sum(int(run["values"]["kept"]) for run in found)
    return (
        f"### Damaged and hostile inputs\n\n{len(rows)} inputs, {sentences} answered with a sentence or read as they are; in "
        f"{kept} no file of a checkpoint was changed by the answer.\n\n{markdown(['kind', 'input', 'answer'], rows, texts=3)}"
    )
