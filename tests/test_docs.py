"""What the documentation shows runs: Python blocks are executed, command lines are parsed."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

from maxent_rl.sweep import expand
from maxent_rl.tokens import objectives, tasks

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(
    r"^\s*(?:\$ )?python experiments/(?P<script>run|sweep|dataset)\.py(?P<flags>[^\n#]*)", re.MULTILINE
)


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def command_lines():
    found = [
        (page.name, match["script"], match["flags"]) for page in PAGES for match in COMMAND.finditer(page.read_text())
    ]
    return [entry for entry in found if not re.search(r"--(help|resume|config)", entry[2])]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "docs"}
    for number, block in enumerate(blocks(page), start=1):
        exec(compile(block, f"{page.name}, block {number}", "exec", dont_inherit=True), names)


def test_every_objective_and_task_has_its_row():
    """And no row names one that there is not."""
    for page, title, names in (
        ("tokens.md", "## Which objectives there are", objectives.names()),
        ("environments.md", "## Token tasks", [f"tokens/{name}" for name in tasks.TASKS]),
    ):
        section = (ROOT / "docs" / page).read_text().partition(title)[2].partition("\n## ")[0]
        firsts = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        assert sorted(re.findall(r"`([^`]+)`", " ".join(firsts))) == sorted(names)


@pytest.mark.parametrize(("page", "script", "flags"), command_lines())
def test_command_lines_parse(page, script, flags):
    spec = importlib.util.spec_from_file_location(script, ROOT / "experiments" / f"{script}.py")
    module = sys.modules[script] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    parsed = module.parse(shlex.split(flags))
    if script == "sweep":
        expand(parsed[1])
