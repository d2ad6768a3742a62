"""Who imports whom in the benchmarks: lab lies below, no study knows another, and nothing goes in a circle."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def imports():
    """By module of the benchmarks, the modules of the benchmarks that it imports anywhere, functions included."""
    names = {}
    for path in (ROOT / "benchmarks").rglob("*.py"):
        if "peers" not in path.parts:
            names[".".join(path.relative_to(ROOT).with_suffix("").parts)] = path
    found = {}
    for name, path in names.items():
        targets = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                targets |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
        found[name] = targets & set(names)
    return found


def test_lab_lies_below_and_no_study_imports_another():
    for name, targets in imports().items():
        room = name.split(".")[1]
        allowed = {
            "lab": ("benchmarks.lab",),
            "speed": ("benchmarks.lab", "benchmarks.speed"),
            "index": ("benchmarks.lab",),
        }
        if room == "studies" and name.count(".") > 2:
            own = ".".join(name.split(".")[:3])
            allowed["studies"] = ("benchmarks.lab", own)
        for target in targets:
            assert target.startswith(allowed.get(room, ())), f"{name} imports {target}"


def test_nothing_goes_in_a_circle():
    TopologicalSorter(imports()).prepare()
