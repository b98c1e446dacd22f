"""Make the small study whose run folder is kept here, and what is said of it.

    PYTHONPATH=old python tests/golden/make.py study     # corpus, configuration and run
    PYTHONPATH=old python tests/golden/make.py expected  # what commands say of that run

The run folder was made by commit 081ec38, the last one before the code was put into packages. It
says that what people have on their disks still opens. Weights and checkpoints are left out.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STUDY, RUN, EXPECTED = HERE / "study", HERE / "run", HERE / "expected"
WORDS = (  # noqa: SIM905
    "the of and to in is for model data train token score low high rank corpus domain slice loss "
    "learn step part small large word"
).split()
HEAVY = (  # not needed to open a run, or to see that nothing of it has to be done again
    "model.safetensors", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "generation_config.json",
)  # fmt: skip
MADE_IN = Path("/tmp/mlxprune-golden")
ANSWERS: dict[str, list[str]] = {
    "status.json": ["status", "run", "--json"],
    "status.txt": ["status", "run"],
    "report.json": ["report", "run", "--json"],
    "explain.json": ["explain", "run", "prose-3", "--json"],
    "explain.txt": ["explain", "run", "code-5"],
    "tail.txt": ["tail", "run", "--no-follow", "-n", "400"],
    "watch.txt": ["watch", "run", "--plain"],
    "select.json": ["select", "run", "--json", "--out", "out", "--criterion", "medium"],
    "stability.txt": ["stability", "run"],
    "plan.json": ["plan", "study/study.yaml", "--no-probe", "--json"],
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "name": "golden",
    "data": {"paths": ["corpus"], "domain_key": "domain", "max_bad": 0.1},
    "split": {"reference": 0.3, "validation": 0.15, "test": 0.15},
    "tokenizer": {"train": {"vocab_size": 300}},
    "references": [
        {"name": "main", "model": "study/model", "tokens": 2048, "context": 32, "batch_size": 8,
         "snapshots": [0.5]},
        {"name": "other", "model": "study/model", "tokens": 2048, "context": 32, "batch_size": 8,
         "seed": 3},
    ],
    "selection": {"unit": "tokens", "rate": 0.5, "criterion": ["low", "high"]},
    "final": {
        "model": "study/model", "tokens": 3072, "context": 32, "batch_size": 8, "seeds": [0, 1],
        "arms": ["pruned", "random", "matched", "none"], "branches": [0.5],
    },
    "evaluation": {"tasks": ["tasks"], "target": ["target.jsonl"]},
}  # fmt: skip
MODEL = {
    "model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "intermediate_size": 32, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}  # fmt: skip


def write_study(folder: Path) -> None:
    draw = random.Random(0)
    (folder / "corpus").mkdir(parents=True)
    (folder / "tasks").mkdir()
    (folder / "model").mkdir()

    def said(least: int, most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(least, most)))

    makers = {
        "prose": lambda: said(5, 60),
        "code": lambda: "\n".join(f"x{draw.randint(0, 9)} = {said(1, 2)}()" for _ in range(6)),
        "numbers": lambda: " ".join(str(draw.randint(0, 99)) for _ in range(draw.randint(5, 40))),
    }
    for domain, make in makers.items():
        rows = [{"id": f"{domain}-{n}", "text": make(), "domain": domain} for n in range(50)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "corpus" / f"{domain}.jsonl").write_text(lines + '{"id": "no text"}\n')
    asked = [
        {"query": said(4, 8), "choices": [said(2, 4), said(2, 4)], "gold": draw.randrange(2)}
        for _ in range(12)
    ]
    (folder / "tasks" / "choose.jsonl").write_text("".join(json.dumps(a) + "\n" for a in asked))
    target = [{"text": said(20, 40), "domain": "prose"} for _ in range(5)]
    (folder / "target.jsonl").write_text("".join(json.dumps(t) + "\n" for t in target))
    (folder / "model" / "config.json").write_text(json.dumps(MODEL))
    (folder / "study.yaml").write_text(json.dumps(CONFIG, indent=1))


def command(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TZ": "UTC"}
    return subprocess.run(
        [sys.executable, "-m", "mlxprune", *arguments], cwd=where, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def copied(where: Path) -> Path:
    """The study and its run in a folder that may be written to; commands are given there."""
    shutil.copytree(STUDY, where / "study")
    shutil.copytree(RUN, where / "run")
    for path in (where / "run").rglob("sources.json"):  # where the files lie now
        path.write_text(path.read_text().replace(str(MADE_IN), str(where)))
    return where / "run"


def now(run: Path) -> float:
    """A moment soon after the last event: a clock that stands still."""
    done = command(run.parent, "tail", str(run), "--no-follow", "-n", "1", "--json")
    return float(json.loads(done.stdout)["t"]) + 60.0


def answers(where: Path) -> dict[str, str]:
    """What commands print of the run in ``where / "run"``, with the folder's name left out."""
    found = {}
    for name, arguments in ANSWERS.items():
        done = command(where, *arguments)
        said = f"{done.stdout}--- {done.returncode}\n"
        found[name] = said.replace(f"{where}/", "")
    return found


def make_study() -> None:
    for folder in (STUDY, RUN):
        shutil.rmtree(folder, ignore_errors=True)
    work = MADE_IN
    shutil.rmtree(work, ignore_errors=True)
    write_study(work / "study")
    done = command(work, "run", "study/study.yaml", "--dir", "run", "--quiet")
    assert done.returncode == 0, done.stderr
    shutil.copytree(work / "study", STUDY)
    shutil.copytree(work / "run", RUN)
    for path in sorted(RUN.rglob("*"), reverse=True):
        parts = path.relative_to(RUN).parts
        spared = parts[0] == "tokenizer" or parts[:2] == ("references", "main")
        if path.name in HEAVY and not spared:
            path.unlink()
        elif path.name == "checkpoints":
            shutil.rmtree(path)
    known = json.loads((RUN / "run.json").read_text())
    (RUN / "run.json").write_text(json.dumps({**known, "host": "golden"}, indent=2))
    shutil.rmtree(work)


def make_expected() -> None:
    import tempfile

    os.environ["TZ"] = "UTC"
    time.tzset()
    shutil.rmtree(EXPECTED, ignore_errors=True)
    EXPECTED.mkdir()
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        copied(where)
        os.chdir(where)
        for file, text in answers(where).items():
            (EXPECTED / file).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    {"study": make_study, "expected": make_expected}[sys.argv[1]]()
