"""The library's shape: who imports whom, and how little `import maxent_rl` loads."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("brax", "gymnasium", "matplotlib", "mujoco", "orbax", "ray", "tensorboard", "tensorboardX", "wandb")

Graph = dict[str, set[str]]


def test_imports_keep_to_the_layers():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_no_import_closes_a_circle_not_even_a_hidden_one():
    found = set(circles(imports(ROOT, "maxent_rl") | imports(ROOT, "benchmarks")))
    assert not found, [sorted(each) for each in found]


@pytest.mark.slow
def test_rooms_within_a_room_close_no_circle():
    """As `data.measures` and `data.datasets`, or `training.runner` and `training.loops`; a file stands for itself."""
    rooms: Graph = {}
    for module, targets in imports(ROOT, "maxent_rl").items():
        own, *others = (".".join(each.split(".")[:3]) for each in (module, *targets))
        rooms.setdefault(own, set()).update(set(others) - {own})
    assert not list(circles(rooms))


def test_no_study_of_benchmarks_imports_another():
    crossing = [
        (module, target)
        for module, targets in imports(ROOT, "benchmarks").items()
        for target in targets
        if module.split(".")[1] == target.split(".")[1] == "studies" and module.split(".")[2] != target.split(".")[2]
    ]
    assert crossing == []


@pytest.mark.parametrize(
    "hidden",
    [
        "from package.second import thing",
        "import package.second",
        "from package import second",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from package.second import thing",
        "def late():\n    from package.second import thing",
    ],
)
def test_a_planted_circle_is_found(hidden, tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text(hidden)
    (package / "second.py").write_text("import package.first, package.third")
    (package / "third.py").write_text("")
    assert circles(imports(tmp_path, "package")) == [frozenset({"package.first", "package.second"})]


def test_a_circle_of_scripts_beside_each_other_is_found(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "first.py").write_text("import second")
    (tmp_path / "scripts" / "second.py").write_text("def late():\n    from first import thing")
    assert circles(imports(tmp_path, "scripts")) == [frozenset({"scripts.first", "scripts.second"})]


@pytest.mark.slow
def test_the_temperature_has_one_rule():
    """Whoever has a temperature takes `networks.Temperature`: its losses and its step stand nowhere else."""
    home = {
        ROOT / "maxent_rl" / name for name in ("networks/temperature.py", "losses/temperature.py", "losses/__init__.py")
    }
    files = set((ROOT / "maxent_rl").rglob("*.py")) - home
    assert {str(path): found for path in files if (found := temperature_formulas(path.read_text()))} == {}


@pytest.mark.parametrize(
    "planted",
    [
        "slope = jax.grad(losses.temperature_loss)(state.log_alpha, -entropy, target)",
        "from maxent_rl.losses import temperature_loss_dual",
        "weight = damped_temperature(log_alpha, entropy, target)",
        "gradient = jax.grad(lambda log_weight: -jnp.exp(log_weight) * surplus)(state.log_weight)",
        "log_alpha = optax.apply_updates(state.log_alpha, step)",
        "value, slope = jax.value_and_grad(loss)(log_temperature)",
    ],
)
def test_a_second_formula_for_the_temperature_is_found(planted):
    assert temperature_formulas(planted)


def temperature_formulas(source: str) -> list[str]:
    """Where a source uses the temperature's losses, or differentiates or moves the logarithm of a weight itself."""
    found = []
    for node in ast.walk(ast.parse(source)):
        named = (
            {_name(node), *(alias.name for alias in node.names)} if isinstance(node, ast.ImportFrom) else {_name(node)}
        )
        if named & {"temperature_loss", "temperature_loss_dual", "damped_temperature"}:
            found.append(ast.unparse(node))
        if not (isinstance(node, ast.Call) and node.args):
            continue
        differentiated = isinstance(node.func, ast.Call) and _name(node.func.func) in ("grad", "value_and_grad")
        moved = _name(node.func) == "apply_updates"
        if (differentiated or moved) and _name(node.args[0]).startswith(("log_alpha", "log_weight", "log_temperature")):
            found.append(ast.unparse(node))
    return found


def _name(node: ast.AST) -> str:
    """The last part of a name: `log_alpha` of `state.log_alpha`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def test_importing_the_library_is_light():
    code = (
        "import sys, maxent_rl\n"
        "assert maxent_rl.__version__ and 'train' in maxent_rl.__all__\n"
        f"print(*sorted({set(HEAVY)!r} & {{name.partition('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "face", ["maxent_rl", "maxent_rl.agents", "maxent_rl.data", "maxent_rl.envs", "maxent_rl.training"]
)
def test_lazy_faces_give_what_they_name(face):
    """What a type checker is told, what is listed, and what is found when asked for."""
    module = importlib.import_module(face)
    told = [
        alias.name
        for node in ast.walk(ast.parse(Path(module.__file__).read_text()))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("maxent_rl")
        for alias in node.names
    ]
    assert sorted(told) == sorted(set(module.__all__) - {"__version__"})
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=rf"module '{face}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018  # looked up for the error


def imports(root: Path, package: str) -> Graph:
    """For each module of a package those of the package that it imports: at the top, for types alone, or in a function."""
    files = {module_of(path, root): path for path in sorted((root / package).rglob("*.py"))}
    return {module: set(_imported(path, files)) - {module} for module, path in files.items()}


def module_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path, files: dict[str, Path]) -> Iterator[str]:
    beside: dict[str, str] = {}  # scripts name each other without their folder
    if not (path.parent / "__init__.py").exists():
        beside = {each.stem: module for module, each in files.items() if each.parent == path.parent}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [each if each in files else node.module for each in whole]
        else:
            assert not isinstance(node, ast.ImportFrom), f"{path} imports relatively: say the whole name"
            continue
        yield from (name if name in files else beside[name] for name in names if name in files or name in beside)


def circles(graph: Graph) -> list[frozenset[str]]:
    """The sets of modules each of which comes back to itself by way of all others (Tarjan's strong components)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[frozenset[str]] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for target in sorted(graph.get(module, ())):
            if target not in number:
                visit(target)
                lowest[module] = min(lowest[module], lowest[target])
            elif target in stack:
                lowest[module] = min(lowest[module], number[target])
        if lowest[module] == number[module]:
            members = frozenset(stack[stack.index(module) :])
            del stack[stack.index(module) :]
            if len(members) > 1:
                found.append(members)

    for module in sorted(graph):
        if module not in number:
            visit(module)
    return found
