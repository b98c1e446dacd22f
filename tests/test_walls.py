"""The two walls of the house, its shape, and that the docs keep up with the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from mlxprune import blas

ROOT = Path(__file__).parents[1]
ENGINE = sorted((ROOT / "mlxprune").rglob("*.py"))
APP = sorted((ROOT / "tui").rglob("*.py"))
# What the app may know of the engine: files and numbers, nothing that works.
APP_KNOWS = {
    "arms", "config", "errors", "events", "lock", "outlook", "runs", "scores", "selection",
    "slices", "split", "state", "study", "tokenizer", "tokens", "yamlfile",
}  # fmt: skip
# Who may import mlx, and only when they run.
MLX_MODULES = {
    "backend", "bench", "branches", "distributed", "doctor", "evaluate", "graph", "harness",
    "model", "optimizer", "probe", "score", "train",
}  # fmt: skip
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


@pytest.mark.parametrize("path", ENGINE, ids=lambda p: p.stem)
def test_only_the_named_modules_touch_mlx_and_none_touches_textual(path: Path) -> None:
    at_import, anywhere = imports_of(path)
    assert "textual" not in anywhere
    assert "torch" not in anywhere
    if path.stem not in MLX_MODULES:
        assert not {"mlx", "mlx_lm"} & anywhere
    if path.stem != "backend":
        assert not {"mlx", "mlx_lm", "transformers"} & at_import


@pytest.mark.parametrize("path", APP, ids=lambda p: p.stem)
def test_the_app_knows_only_files_and_numbers(path: Path) -> None:
    _, anywhere = imports_of(path)
    assert not {"mlx", "mlx_lm", "transformers", "torch"} & anywhere
    known = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "mlxprune":
            known |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlxprune."):
            known.add(str(node.module).split(".")[1])
    assert known <= APP_KNOWS


def test_the_app_starts_without_mlx() -> None:
    code = (
        "import sys, mlxprune_tui.app\n"
        "print([m for m in ('mlx.core', 'mlx_lm', 'transformers', 'matplotlib', 'torch') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", [*ENGINE, *APP], ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_modules_are_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "a module begins with a sentence"
    assert len(text.splitlines()) <= LINES


@pytest.mark.parametrize(
    "module", ["cli", "pipeline", "report", "events", "state", "selection", "jobs", "plan"]
)
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
    """Every tested noun is a module."""
    known = {p.stem for p in ENGINE} | {"walls", "kill", "docs", "golden"}
    tests = {p.stem.removeprefix("test_") for p in (ROOT / "tests").glob("test_*.py")}
    assert tests <= known
    app = {p.stem for p in APP} | {"terminal", "serve"}
    tests = {p.stem.removeprefix("test_") for p in (ROOT / "tests" / "tui").glob("test_*.py")}
    assert tests <= app


def test_the_shim_is_one_small_file() -> None:
    assert len(blas.shim_bytes(blas.NAMES)) < 8192


def test_no_path_of_a_machine_stands_in_the_tree() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.split():
        if (ROOT / name).is_symlink():
            continue
        text = (ROOT / name).read_text(errors="replace")
        for prefix in ("/ho" + "me/", "/wo" + "rk/", "/ro" + "ot/"):
            assert prefix not in text, name
