"""The public names, and every example of docs/api.md, run one after the other."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mlxprune
from mlxprune.config.yaml_file import write_yaml
from mlxprune.testing import tiny

ROOT = Path(__file__).parents[1]
NAMES = {
    "Config", "MlxpruneError", "RunArtifacts", "RunFolder", "Scores", "Slice", "StudyResult",
    "TextScores", "__version__", "export", "filter", "load_config", "open_run", "read_scores",
    "run_study", "score_texts", "select_slice", "validate_config",
}  # fmt: skip


def test_the_public_names_are_exactly_these() -> None:
    """A change here is a change of the interface: it belongs in the changelog."""
    assert set(mlxprune.__all__) == NAMES == set(dir(mlxprune))
    for name in NAMES:
        assert getattr(mlxprune, name) is not None, name
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = mlxprune.no_such_name


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    code = (
        "import sys, mlxprune\n"
        "print([m for m in ('mlx.core', 'pyarrow', 'pydantic', 'mlxprune.pipeline.runner') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_examples_run_and_say_what_stands_beside_them(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(write_yaml(tiny.tiny_config(tiny_corpus)))
    names: dict[str, Any] = {"mlxprune_folder": tmp_path / "run", "new_files": [str(tiny_corpus)]}
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) == 9
    claims = 0
    for line in "".join(blocks).splitlines():
        code, _, said = line.partition("  # ")
        exec(compile(code, "docs/api.md", "exec"), names)
        if re.match(r"'\w[\w-]*'$|\d+$|True$|\[.*\]$|\(.*\)$", said):
            claims += 1
            assert eval(code, names) == ast.literal_eval(said), line
        elif re.match(r"'done'", said):
            claims += 1
            assert eval(code, names) == "done", line
    assert claims == 7
    assert names["exported"].documents == names["held"].kept(names["choice"]).sum()
    assert names["filtered"].whole.kept_documents > 0
    assert names["kept"].sum() == names["held"].manifest(names["choice"]).kept_documents
    assert names["mask"].mean() == pytest.approx(0.25, abs=0.01)
