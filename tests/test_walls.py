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
TESTS = sorted((ROOT / "tests").rglob("*.py"))
# Who may import mlx, and only when they run: where arrays are computed, and the proofs of that.
MLX_MODULES = {
    "diagnostics.benchmark", "diagnostics.doctor", "diagnostics.kernel_checks",
    "diagnostics.measurements", "engine.backend",
    "engine.gpu.attention", "engine.gpu.embedding", "engine.gpu.loss_graph",
    "engine.gpu.shared_prefix", "engine.gpu.tracing", "engine.gpu.training_graph",
    "engine.hardware", "engine.mlx_lm_import",
    "engine.optimizer", "evaluation.bits_per_byte", "evaluation.lm_eval_bridge",
    "model.architecture", "model.model_checks", "model.weights", "planning.throughput",
    "scoring.nll", "testing.models", "training.checkpoints",
}  # fmt: skip
AT_IMPORT = {
    "engine.backend",
    "engine.hardware",
    "testing.models",
}  # these two are imported only when they compute
LINES = 450

# Modules without a test file of their own: (the file whose tests hold them, why).
HELD_ELSEWHERE = {
    ("commands/test_study.py", "thin: arguments in, one call, words out; each is started as a user"
     " would"): "__main__ cli commands.console commands.options commands.single_stages"
    " commands.slices commands.steering commands.files_out commands.comparing",
    ("planning/test_file_look.py", "what `init` finds and writes, on files of many layouts"):
    "commands.data_table planning.draft_config planning.corpus_sample testing.layouts",
    ("planning/test_possible.py", "models of other families, from plan to the end of a run"):
    "testing.families scoring.unscored_file experiment.document_account",
    ("run/test_events.py", "records of every kind, and damaged ones, are read back"): "run.wire",
    ("test_golden.py", "what they say of a run folder is compared with what they said before"):
    "commands.results report.terminal experiment.study_result report.result run.event_kinds",
    ("standalone/test_evaluate.py", "the command and its tables"):
    "commands.evaluate report.terminal_tasks evaluation.asking evaluation.items_file",
    ("config/test_schema.py", "a configuration is read and refused as a whole"):
    "config.field_types config.loading config.messages config.yaml_file",
    ("exporting/test_export.py", "a reader of its own holds what comes out against what went in"):
    "data.original_rows data.output_file experiment.chosen_slice exporting.card"
    " exporting.documents exporting.known_columns exporting.order"
    " experiment.private report.handover",
    ("filtering/test_filter_text.py", "whole studies, filtered by"):
    "execution.crew filtering.basis filtering.blocks filtering.filter filtering.order"
    " filtering.result filtering.worker",
    ("tracking/test_track.py", "what trackers are told is read back by their libraries"):
    "run.following tracking.points tracking.trackers",
    ("evaluation/test_tasks.py", "the facts of the suite are held against its files"):
    "config.task_suite",
    ("data/test_readers.py", "files are found, unpacked and read in one go"):
    "data.sources data.hub",
    ("data/test_index.py", "the index is what they make"):
    "data.hashing data.indexing data.row_counts",
    ("data/test_split.py", "the parts are what they are drawn for"): "data.held_out",
    ("pipeline/test_screen_slices.py", "a whole study that screens and confirms"):
    "experiment.trust",
    ("standalone/test_score.py", "a user's data through a user's commands"):
    "data.demo_corpus standalone.train scoring.score_corpus tokenization.prepare"
    " training.model_card",
    ("diagnostics/test_benchmark.py", "`.ci/run` runs the self-test itself"):
    "diagnostics.doctor diagnostics.evidence diagnostics.kernel_checks diagnostics.measurements"
    " diagnostics.selftest",
    ("engine/cpu/test_layers.py", "parts of one pass through a model, held as a whole"):
    "engine.cpu.attention engine.cpu.head engine.cpu.llama engine.cpu.threads",
    ("engine/test_shared_prefix.py", "both engines against the same float64 answers"):
    "engine.cpu.shared_prefix engine.gpu.shared_prefix",
    ("engine/gpu/test_training_graph.py", "what is replaced is seen in steps"):
    "engine.gpu.tracing",
    ("engine/test_backend.py", "what it is and what is computed on it"): "engine.hardware",
    ("execution/test_children.py", "two processes and what is between them"):
    "execution.endings execution.link execution.messages execution.supervision",
    ("training/test_loop.py", "trainings that are cut otherwise"):
    "training.shapes",
    ("pipeline/test_runner.py", "how stages run, stop and are reused is seen in whole runs"):
    "execution.context execution.control execution.lifecycle execution.progress execution.stage"
    " pipeline.prepare_data pipeline.select_slices pipeline.train_arms pipeline.train_documents"
    " errors",
    ("pipeline/test_train_references.py", "scores of several models, in whole runs"):
    "pipeline.score_pool experiment.scorers scoring.model_free experiment.artifacts",
    ("pipeline/test_evaluate_arms.py", "evaluation in whole runs"):
    "pipeline.decontaminate evaluation.target_text experiment.task_results",
    ("test_faults.py", "whole runs whose children fail"):
    "evaluation.model_answers experiment.training_order testing.faults testing.forced",
    ("model/test_device_choice.py", "what is chosen, and from which figures"):
    "model.dtype_trial model.timing",
    ("experiment/test_comparisons.py", "records of arms are what comparisons are made of"):
    "experiment.records",
    ("planning/test_cost_model.py", "the plan is its figures and what data say"):
    "planning.plan planning.throughput",
    ("model/test_weights.py", "a model is built, counted, saved and opened"): "model.architecture",
    ("report/test_page.py", "one page: its pictures, tables and samples"):
    "report.figures report.samples report.task_tables report.answer report.answer_pictures"
    " experiment.arm_styles",
    ("run/test_state.py", "the fold is what makes a state"): "run.fold",
    ("run/test_lock.py", "how a run stands follows from its lock"): "run.status",
    ("scoring/test_nll.py", "documents are scored through them"): "scoring.windows scoring.workers",
    ("selection/test_selector.py", "a slice is what they choose"):
    "selection.metric selection.ranking selection.manifest",
    ("tokenization/test_tokenizer.py", "trained, saved and used"):
    "tokenization.sentencepiece_bpe tokenization.token_file tokenization.awkward_texts"
    " tokenization.tokenizer_training",
    ("training/test_loop.py", "a training is a job, its progress and its summary"):
    "training.job training.progress training.summary",
    ("test_kill.py", "doubles and makers of data that tests use"):
    "testing.corpora testing.exported testing.float64_llama testing.models testing.quiet"
    " testing.task_files testing.tiny testing.training tui.testing",
    ("test_docs.py", "one line"): "version",
    ("tui/drawing/test_cells.py", "charts are drawn into cells"):
    "tui.drawing.histogram tui.drawing.line_chart",
    ("tui/readers/test_document_table.py", "texts of its rows"): "tui.readers.document_text",
    ("tui/screens/test_comparison.py", "the screen shows what it reads"):
    "tui.readers.run_comparison tui.screens.comparison_tables tui.screens.arm_table",
    ("tui/screens/test_selection.py", "the tables of that screen"): "tui.screens.slice_tables",
    ("tui/screens/test_training.py", "curves and models of that screen"):
    "tui.screens.pictures tui.screens.model_table",
    ("tui/test_app.py", "the whole app: its screens, what they say, what is told unasked"):
    "tui.screens.base tui.screens.headlines tui.screens.notices tui.shell.session"
    " tui.widgets.ink tui.widgets.key_footer",
    ("tui/shell/test_keys.py", "settings keep own keys; every screen has help"):
    "tui.shell.settings tui.shell.help_texts",
    ("tui/test_terminal.py", "on a terminal"): "tui.shell.terminal_card",
}  # fmt: skip


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


def test_every_test_file_is_of_a_module() -> None:
    """It stands where its module stands; what is of none is listed here."""
    known = {
        "walls",
        "kill",
        "faults",
        "damage",
        "fuzzed",
        "docs",
        "golden",
        "api",
        "tui.terminal",
        "tui.serve",
        "tui.snapshots",
    }
    known |= {module_of(p) for p in ENGINE} | {f"tui.{module_of(p)}" for p in APP}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        assert of_test(path) in known, path


def of_test(path: Path) -> str:
    parts = path.relative_to(ROOT / "tests").with_suffix("").parts
    return ".".join([*parts[:-1], parts[-1].removeprefix("test_")])


def test_every_module_has_a_test_file_or_a_reason() -> None:
    modules = {module_of(p) for p in ENGINE} | {f"tui.{module_of(p)}" for p in APP}
    modules = {name for name in modules if name.rpartition(".")[2] != "__init__"}
    own = {of_test(path) for path in (ROOT / "tests").rglob("test_*.py")}
    listed = {name for names in HELD_ELSEWHERE.values() for name in names.split()}
    assert listed == modules - own
    assert sum(len(names.split()) for names in HELD_ELSEWHERE.values()) == len(listed)
    for test, _ in HELD_ELSEWHERE:
        assert (ROOT / "tests" / test).exists(), test


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
    assert found | {"mlxprune_models", "mlxprune_recipes"} == {*listed}


@pytest.mark.parametrize("path", TESTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_tests_reach_no_private_names(path: Path) -> None:
    """What a test needs is public, or it tests how a thing is made and not what it does."""
    own = {"self", "cls", "os", "sys"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not any(alias.name.startswith("_") for alias in node.names), path
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            is_own = isinstance(node.value, ast.Name) and node.value.id in own
            assert is_own or node.attr.startswith("__"), f"{path}:{node.lineno} {node.attr}"


@pytest.mark.parametrize("path", [*ENGINE, *APP], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_long_function_has_a_reason(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 60:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            assert lines[first - 2].strip().startswith("# Over 60 lines: "), f"{path}:{node.name}"


def test_every_library_that_is_imported_is_declared() -> None:
    """Whatever else brings it along today: the next version of that may not."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = told["optional-dependencies"].values()
    names = [*told["dependencies"], *(need for group in extras for need in group)]
    declared = {re.split(r"[\s<>=;\[]", need)[0].lower().replace("-", "_") for need in names}
    called = {"ruamel": "ruamel.yaml", "backports": "backports.zstd", "lm_eval": "lm_eval"}
    # Parts of what is declared: click is typer's, aiohttp textual-serve's.
    carried = {"click", "aiohttp", "pydantic_core", "scipy_openblas32", "torch"}
    used: dict[str, Path] = {}
    for path in [*ENGINE, *APP]:
        for name in imports_of(path)[1]:
            used.setdefault(name, path)
    own = {*sys.stdlib_module_names, "compression", "mlxprune", "mlxprune_tui", *carried}
    missing = {
        name: path
        for name, path in used.items()
        if name not in own and called.get(name, name).lower() not in declared
    }
    assert missing == {}
