"""What the documentation shows runs: Python blocks are executed, command lines are parsed."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^\s*(?:\$ )?python experiments/run\.py(?P<flags>[^\n#]*)", re.MULTILINE)


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def command_lines():
    found = [(page.name, match["flags"]) for page in PAGES for match in COMMAND.finditer(page.read_text())]
    return [entry for entry in found if not re.search(r"--(help|resume|config)", entry[1])]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "docs"}
    for number, block in enumerate(blocks(page), start=1):
        exec(compile(block, f"{page.name}, block {number}", "exec", dont_inherit=True), names)


@pytest.mark.parametrize(("page", "flags"), command_lines())
def test_command_lines_parse(page, flags):
    spec = importlib.util.spec_from_file_location("run", ROOT / "experiments" / "run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    run.parse(shlex.split(flags))
