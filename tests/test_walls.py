"""The two walls of the house, its shape, and that the docs keep up with the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mlxprune.engine import blas

ROOT = Path(__file__).parents[1]
ENGINE = sorted((ROOT / "mlxprune").rglob("*.py"))
APP = sorted((ROOT / "tui").rglob("*.py"))
# Who may import mlx, and only when they run: where arrays are computed, and the proofs of that.
MLX_MODULES = {
    "diagnostics.benchmark", "diagnostics.doctor", "diagnostics.selftest", "engine.backend",
    "engine.gpu.loss_graph", "engine.gpu.shared_prefix", "engine.gpu.training_graph",
    "engine.optimizer", "evaluation.bits_per_byte", "evaluation.lm_eval_bridge",
    "model.architecture", "model.weights", "planning.throughput", "scoring.nll", "testing.models",
    "training.checkpoints", "training.loop",
}  # fmt: skip
AT_IMPORT = {"engine.backend", "testing.models"}  # these two are imported only when they compute
LINES = 450


def imports_of(path: Path) -> tuple[set[str], set[str]]:
    """(top-level packages imported at import time, those imported anywhere)."""

    def names(nodes: list[ast.stmt]) -> set[str]:
        found = set()
        for node in nodes:
            if isinstance(node, ast.Import):
                found |= {a.name.split(".")[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
        return found

    tree = ast.parse(path.read_text())
    everywhere = [n for n in ast.walk(tree) if isinstance(n, ast.stmt)]
    return names(tree.body), names(everywhere)


def test_the_walls_read_every_module() -> None:
    """A test over an empty list is green, whatever stands in the files that it does not see."""
    listed = subprocess.run(
        ["git", "ls-files", "mlxprune/*.py", "tui/*.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    known = {path.relative_to(ROOT).as_posix() for path in (*ENGINE, *APP)}
    assert known >= {name for name in listed.stdout.split() if (ROOT / name).exists()}
    assert len(known) > 100


def module_of(path: Path) -> str:
    """The dotted name below its package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts[1:])


def test_every_package_imports_only_from_those_below_it() -> None:
    """The contracts of pyproject.toml, which draw the layers and the two walls."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", ENGINE, ids=module_of)
def test_only_the_named_modules_touch_mlx(path: Path) -> None:
    at_import, anywhere = imports_of(path)
    assert "torch" not in anywhere
    if module_of(path) not in MLX_MODULES:
        assert not {"mlx", "mlx_lm"} & anywhere
    if module_of(path) not in AT_IMPORT:
        assert not {"mlx", "mlx_lm", "transformers"} & at_import


def test_the_modules_that_may_touch_mlx_are_there() -> None:
    assert {module_of(path) for path in ENGINE} >= MLX_MODULES


def test_the_app_starts_without_mlx() -> None:
    code = (
        "import sys, mlxprune_tui.app\n"
        "print([m for m in ('mlx.core', 'mlx_lm', 'transformers', 'matplotlib', 'torch') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", [*ENGINE, *APP], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_modules_are_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "a module begins with a sentence"
    assert len(text.splitlines()) <= LINES


@pytest.mark.parametrize(
    "module",
    [
        "cli", "pipeline.runner", "report.page", "run.events", "run.state", "selection.selector",
        "standalone.score", "planning.plan",
    ],
)  # fmt: skip
def test_importing_does_not_load_mlx(module: str) -> None:
    """In a process of its own, what is really loaded."""
    code = (
        f"import sys, mlxprune.{module}\n"
        "print([m for m in ('mlx.core', 'mlx_lm', 'transformers', 'textual', 'matplotlib') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_is_named_like_the_standard_library() -> None:
    assert not {p.stem for p in ENGINE} & set(sys.stdlib_module_names)


def test_the_tests_mirror_the_modules() -> None:
    """Every test file stands where the module stands that it is of."""
    known = {"walls", "kill", "docs", "golden", "tui.terminal", "tui.serve"}
    known |= {module_of(p) for p in ENGINE} | {f"tui.{module_of(p)}" for p in APP}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        parts = path.relative_to(ROOT / "tests").with_suffix("").parts
        name = ".".join([*parts[:-1], parts[-1].removeprefix("test_")])
        assert name in known, path


def test_the_shim_is_one_small_file() -> None:
    assert len(blas.shim_bytes(blas.NAMES)) < 8192


def test_no_path_of_a_machine_stands_in_the_tree() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.split():
        if (ROOT / name).is_symlink() or not (ROOT / name).exists():
            continue
        text = (ROOT / name).read_text(errors="replace")
        for prefix in ("/ho" + "me/", "/wo" + "rk/", "/ro" + "ot/"):
            assert prefix not in text, name


def test_every_folder_of_code_is_a_package_of_the_wheel() -> None:
    """The list in pyproject.toml is by hand: a folder that is not in it is not installed."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent for path in (*ENGINE, *APP)}
    names = {folder.relative_to(ROOT).as_posix().replace("/", ".") for folder in folders}
    found = {re.sub(r"^tui\b", "mlxprune_tui", name) for name in names}
    assert found | {"mlxprune_models"} == {*listed}
