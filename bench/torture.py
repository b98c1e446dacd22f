"""Do a run every harm that a computer can do, and compare every byte that it leaves.

    python bench/torture.py [--rounds 2] [--seed N]  all of it: over 200 kills, half an hour or more
    python bench/torture.py --seconds 60             a short round
    python bench/torture.py --prove                  five faults are planted; each must be found

A round goes through the stages of a study. In each it is killed at file operations drawn from a
trace of a whole run (``seam/`` counts them: before, after, in the middle of a write), and at random
instants; then it is told to go on, and killed again on the way. Between kills: signals, commands,
failing disks (EIO, ENOSPC), a power loss (what was not flushed is lost), damaged checkpoints. At
the end every file is compared with those of a run that nobody disturbed (torture_checks.py, which
shares no code with the engine). Then every artifact is damaged, some at a time, and must be whole
again after the next start. The seed replays a failure. A round that hits a stage less than it
should fails.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torture_checks as checks
from torture_faults import PLANTS, planted

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the corpus alone is ours
from mlxprune.testing import tiny

ROOT = Path(__file__).resolve().parents[1]

SEAM = Path(__file__).parent / "seam"
STAGES = [name for name, _ in checks.STAGES]
LEAST_KILLS = 10  # inside each stage, over all rounds of a full run
INTERVAL = 2048
WAIT = 600.0


@dataclass
class Study:
    """A configuration, what an undisturbed run of it leaves, and what that run did to files."""

    name: str
    config: Path
    base: Path
    more: dict[str, str]  # environment: which package is run
    expected: dict[str, str] = field(default_factory=dict)
    trace: list[tuple[str, str]] = field(default_factory=list)
    targets: int = 0


@dataclass
class Account:
    """What has been done, and what went wrong."""

    kills: Counter[str] = field(default_factory=Counter)  # by stage
    harms: Counter[str] = field(default_factory=Counter)  # by kind
    failures: list[str] = field(default_factory=list)
    kills_wanted: int = 0  # by now, inside each stage

    def fail(self, what: str) -> None:
        self.failures.append(what)
        print(f"FAIL {what}", flush=True)


def tasks(folder: Path, count: int) -> Path:
    draw = random.Random(0)
    folder.mkdir()
    for name in ("first", "second"):
        rows = []
        for _ in range(count):
            said = [" ".join(draw.choices(tiny.WORDS, k=20)) for _ in range(3)]
            rows.append({"query": said[0], "choices": said[1:], "gold": draw.randrange(2)})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


def studies(base: Path, more: dict[str, str], small: bool) -> list[Study]:
    """What there is of a study, in two: references with an early copy, tasks, a target, documents
    that are left out, branches; and cross-scoring with a ladder."""
    corpus = tiny.tiny_corpus(base / "corpus", documents=3600)
    target = base / "target.txt"
    target.write_text(" ".join(random.Random(3).choices(tiny.WORDS, k=3000)))
    work = {"tokens": 12_000, "checkpoint_every": INTERVAL}
    asked = {
        "tasks": [str(tasks(base / "tasks", 300 if small else 900))],
        "target": [str(target)],
        "contamination": "remove",
    }
    first = tiny.tiny_config(
        corpus,
        reference={**work, "snapshots": [0.5]},
        score={"batch_tokens": 512},
        final={**work, "branches": [0.5]},
        evaluation=asked,
    )
    if not small:
        first["references"] = [
            {**first.pop("reference"), "name": "a"},
            {"name": "b", "model": "pico", "tokens": 6_000, "context": 64, "batch_size": 8},
        ]
    second = tiny.tiny_config(
        corpus,
        split={"reference": 0.0, "cross": 2, "validation": 0.1, "test": 0.1},
        reference=work,
        final={**work, "arms": ["pruned", "random", "matched"], "ladder": [0.5]},
    )
    del second["split"]["reference"]
    made = []
    for name, tree in [("plain", first)] if small else [("plain", first), ("cross", second)]:
        path = base / f"{name}.yaml"
        path.write_text(json.dumps(tree))  # JSON is YAML, too
        made.append(Study(name, path, base / name, more))
    return made


def start(study: Study, run: Path, plan: dict | None = None, *command: str) -> subprocess.Popen:
    """The command of a run, in a session of its own; with a plan under the seam."""
    environment = {**os.environ, **study.more, "TORTURE": str(run)}
    paths = [study.more.get("PYTHONPATH", str(ROOT))]
    if plan is not None:
        place = run.parent / "plan.json"
        place.write_text(json.dumps(plan))
        environment["SEAM"] = str(place)
        paths.insert(0, str(SEAM))
    environment["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
    command = command or ("run", str(study.config), "--dir", str(run), "--quiet")
    log = (run.parent / "stderr.txt").open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", "mlxprune", *command],
        env=environment, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
        cwd=run.parent,  # not the checkout, whose package would be found first
    )  # fmt: skip


def clear(run: Path) -> None:
    """End what is left of a run: children are in sessions of their own."""
    wanted = f"TORTURE={run}\0".encode()
    for process in psutil.process_iter():
        try:
            if wanted in (Path("/proc") / str(process.pid) / "environ").read_bytes():
                process.kill()
                process.wait(10)
        except (OSError, psutil.Error):
            continue


def plan_of(run: Path, **harm: object) -> dict:
    trace = run.parent / "trace.txt"
    for path in (trace, trace.with_name("trace.txt.count")):
        path.unlink(missing_ok=True)
    return {"root": str(run), "trace": str(trace), **harm}


def traced(run: Path) -> list[tuple[str, str]]:
    """(operation, path); a number of a process in a name is left out: the next has another."""
    lines = (run.parent / "trace.txt").read_text().splitlines()
    found = [json.loads(line)[:2] for line in lines]
    return [(operation, re.sub(r"\.\d+\.partial$", "", path)) for operation, path in found]


def undisturbed(study: Study) -> None:
    run = study.base / "whole" / "run"
    run.parent.mkdir(parents=True)
    child = start(study, run, plan_of(run))
    if child.wait(WAIT):
        raise SystemExit(f"the run fails by itself: {said(run)}")
    study.expected, study.trace = checks.files_of(run), traced(run)
    study.targets = tiny.targets_trained(run)
    for name in checks.left_over(run):
        raise SystemExit(f"an undisturbed run leaves {name}")
    hit = Counter(checks.stage_of(path) for _, path in study.trace)
    print(
        f"{study.name}: {len(study.expected)} files, {len(study.trace)} operations: "
        + ", ".join(f"{s} {hit[s]}" for s in STAGES),
        flush=True,
    )


def said(run: Path) -> str:
    text = (run.parent / "stderr.txt").read_text(errors="replace").strip()
    return " / ".join(text.splitlines()[-4:])[-400:]


# --- harms --------------------------------------------------------------------------------------


def kill_at(
    study: Study, run: Path, stage: str, draw: random.Random, account: Account, early: bool = False
) -> bool:
    """Killed at an operation of a stage, drawn from the trace; what was not flushed may be lost, as
    when the power goes. ``early``: before an operation of its first half, so that there is a next
    time. False where the run ended without coming there."""
    there = [(o, p) for o, p in study.trace if checks.stage_of(p) == stage]
    operation, path = draw.choice(there[: len(there) // 2] if early else there)
    how = draw.choice(["kill"] * 6 + ["torn", "child", "eio", "enospc"])
    how = "kill" if early else how
    after = [start for _, starts in checks.STAGES[STAGES.index(stage) + 1 :] for start in starts]
    plan = plan_of(
        run, op=operation, path=path, nth=1, how=how,
        when="before" if early else draw.choice(["before", "after"]),
        later=after,
    )  # fmt: skip
    child = start(study, run, plan)
    try:
        code = child.wait(WAIT)
    except subprocess.TimeoutExpired:
        clear(run)
        account.fail(f"{study.name}: a run hangs after {how} at {operation} {path}")
        return True
    clear(run)
    came = (run.parent / "trace.txt.count").exists()
    if not came:
        if code == -signal.SIGKILL:
            account.kills[touched(run)] += 1
            account.harms["kill"] += 1
        return code != 0 or not finished(run)
    account.harms[how] += 1
    if how in ("kill", "torn", "child"):
        account.kills[stage] += 1
    if how == "child" and code == 0:
        return False  # it began the work again by itself, and came to the end
    # Where it could do without what failed, it went on to the next stage, and was ended there.
    if how in ("eio", "enospc") and code not in (0, 1, 2, 3, -signal.SIGKILL):
        account.fail(f"{study.name}: exit code {code} after {how} at {operation} {path}")
    if how in ("eio", "enospc") and "Traceback" in said(run):
        account.fail(f"{study.name}: a traceback after {how}: {said(run)}")
    if how in ("kill", "torn") and draw.random() < 0.4:
        lost = lose_unflushed(run, draw)
        account.harms["power loss"] += 1
        check_power(study, run, f"{operation} {path}, {lost} files lost bytes", account)
    return True


def lose_unflushed(run: Path, draw: random.Random) -> int:
    """What a power loss does: of files that were not flushed since they changed, nothing, zeros or
    a half is there; those that were flushed stay."""
    flushed = set()
    for line in (run.parent / "trace.txt").read_text().splitlines():
        name, _, state, _ = json.loads(line)
        if name == "fsync" and state:
            flushed.add(tuple(state))
    began = (run.parent / "plan.json").stat().st_mtime_ns
    lost = 0
    for path in run.rglob("*"):
        if not path.is_file():
            continue
        told = path.stat()
        known = (told.st_ino, told.st_size, told.st_mtime_ns) in flushed
        if known or told.st_mtime_ns < began or path.name in (".lock",):
            continue
        data = path.read_bytes()
        half = len(data) // 2
        path.write_bytes(
            draw.choice([b"", bytes(len(data)), data[:half], data[:half] + bytes(half)])
        )
        lost += 1
    return lost


def check_power(study: Study, run: Path, where: str, account: Account) -> None:
    """What the run calls finished must have been flushed before it said so. Events may end early,
    and what is at work is nobody's promise."""
    child = subprocess.run(
        [sys.executable, "-m", "mlxprune", "verify", str(run), "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **study.more}, cwd=run.parent,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        damaged = [one["file"] for one in json.loads(child.stdout)["damaged"]]
    except (ValueError, KeyError):
        return  # killed before there was a run
    finished_ones = [name for name in damaged if not name.startswith("events/")]
    if finished_ones:
        account.fail(
            f"{study.name}: not flushed before it was called finished: "
            f"{', '.join(finished_ones[:3])} (power lost at {where})"
        )


def kill_anywhere(study: Study, run: Path, draw: random.Random, account: Account) -> bool:
    """By a signal, a command, or SIGKILL, at a random instant. False where it ended before."""
    how = draw.choice(["KILL", "KILL", "INT", "TERM", "HUP", "STOP", "pause", "stop"])
    child = start(study, run)
    try:
        child.wait(draw.uniform(1.0, 9.0))
        return False
    except subprocess.TimeoutExpired:
        pass
    began = time.monotonic()
    at = touched(run)
    if how in ("pause", "stop"):
        if not (run / "run.json").exists():
            os.kill(child.pid, signal.SIGTERM)
        else:
            start(study, run, None, how, str(run)).wait(60)
            if how == "pause":
                time.sleep(1.0)
                start(study, run, None, "resume", str(run)).wait(60)
                time.sleep(0.5)
                os.kill(child.pid, signal.SIGTERM)
    elif how == "STOP":
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(1.0)
        os.kill(child.pid, signal.SIGCONT)
        time.sleep(1.0)
        os.kill(child.pid, signal.SIGKILL)
    else:
        os.kill(child.pid, getattr(signal, f"SIG{how}"))
    try:
        code = child.wait(60)
    except subprocess.TimeoutExpired:
        account.fail(f"{study.name}: {how} is not heard for 60 s, in {at}")
        code = -9
    clear(run)
    account.harms[how] += 1
    account.kills[at] += 1
    wanted = {
        "INT": (130, 0),
        "TERM": (143, 0),
        "HUP": (129, 0),
        "stop": (3, 0, 143),
        "pause": (143, 0),
    }.get(how)
    if wanted and code not in wanted and time.monotonic() - began > 1.0:
        account.fail(f"{study.name}: exit code {code} after {how} in {at}: {said(run)}")
    return True


def touched(run: Path) -> str:
    """The stage of the newest file."""
    newest, name = 0, "corpus"
    for path in run.rglob("*"):
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            continue
        stage = checks.stage_of(path.relative_to(run).as_posix())
        if stage and changed > newest:
            newest, name = changed, stage
    return name


def damage_checkpoint(study: Study, run: Path, draw: random.Random, account: Account) -> None:
    """The newest checkpoint of whatever is unfinished: the one before it is used."""
    found = [p for p in run.glob("*/*/checkpoints/step-*") if ".partial" not in p.name]
    found = [p for p in found if not (p.parents[1] / "stage.json").exists()]
    if found:
        newest = max(found, key=lambda p: p.stat().st_mtime_ns)
        harm_file(draw.choice(sorted(p for p in newest.iterdir() if p.is_file())), draw)
        account.harms["checkpoint"] += 1


def harm_file(path: Path, draw: random.Random) -> str:
    """Flip a bit, cut, empty, or remove; never in place, since files may have several names."""
    data = bytearray(path.read_bytes())
    how = draw.choice(["flip", "flip", "flip", "cut", "empty", "gone"])
    path.unlink()
    if how == "flip" and data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif how == "cut":
        del data[len(data) * draw.randrange(1, 10) // 10 :]
    elif how == "empty":
        data.clear()
    if how != "gone":
        path.write_bytes(data)
    return how


# --- rounds -------------------------------------------------------------------------------------


def finished(run: Path) -> bool:
    return (run / "report.json").exists() and (run / ".report.html.stage.json").exists()


def to_the_end(study: Study, run: Path, account: Account) -> bool:
    child = start(study, run)
    try:
        code = child.wait(WAIT)
    except subprocess.TimeoutExpired:
        clear(run)
        account.fail(f"{study.name}: hangs when it goes on")
        return False
    if code:
        account.fail(f"{study.name}: exit code {code} when it goes on: {said(run)}")
    return code == 0


def compare(
    study: Study, run: Path, what: str, account: Account, harmed: tuple[str, ...] = ()
) -> None:
    found = checks.files_of(run)
    different = checks.differences(study.expected, found, harmed)
    if different:
        account.fail(f"{study.name}, {what}: {len(different)} files differ: {different[:4]}")
    if left := checks.left_over(run):
        account.fail(f"{study.name}, {what}: left over: {left[:4]}")


def one_round(
    study: Study,
    number: str,
    per_stage: int,
    draw: random.Random,
    account: Account,
    until: float,
    short: bool = False,
) -> None:
    """A folder that is killed in every stage, and compared when it has come to its end."""
    run = study.base / number / "run"
    run.parent.mkdir(parents=True, exist_ok=True)
    before = sum(account.kills.values())
    quota = 0 if short else account.kills_wanted
    for stage in STAGES:
        tries = 0
        # A stage of few operations is soon over: first it is killed as often as is wanted.
        while account.kills[stage] < quota and tries < 12:
            tries += 1
            kill_at(study, run, stage, draw, account, early=True)
        for _ in range(per_stage):
            if time.monotonic() > until:
                break
            if draw.random() < 0.25:
                damage_checkpoint(study, run, draw, account)
            if draw.random() < 0.2:
                kill_anywhere(study, run, draw, account)
            else:
                kill_at(study, run, stage, draw, account)
    if to_the_end(study, run, account):
        compare(study, run, f"round {number}", account)
        spent = tiny.targets_trained(run)
        kills = sum(account.kills.values()) - before
        print(
            f"{study.name} {number}: {kills} kills, {spent:,} targets for {study.targets:,}",
            flush=True,
        )
    shutil.rmtree(run.parent)


def damage_everything(
    study: Study, draw: random.Random, account: Account, until: float, together: int = 4
) -> None:
    """Every file of a finished run, some at a time: after the next start it is as it was."""
    whole = study.base / "whole" / "run"
    names = [n for n in study.expected if not n.startswith(("report.json",))]
    draw.shuffle(names)
    count = 0
    for at in range(0, len(names), together):
        if time.monotonic() > until and at:
            break
        run = study.base / "damaged" / "run"
        shutil.rmtree(run.parent, ignore_errors=True)
        shutil.copytree(whole, run)
        done = {name: harm_file(run / name, draw) for name in names[at : at + together]}
        count += len(done)
        if to_the_end(study, run, account):
            compare(study, run, f"damaged {done}", account, tuple(done))
    account.harms["damaged artifact"] += count
    print(f"{study.name}: {count} of {len(names)} artifacts damaged", flush=True)


def commands_killed(study: Study, draw: random.Random, account: Account, kills: int) -> None:
    """`export` and `filter`, killed at operations and gone on with: the same bytes."""
    run = study.base / "whole" / "run"
    data = str(study.base.parent / "corpus")
    for verb, more in (
        ("export", ["--to", "parquet"]),
        ("filter", ["--data", data]),
    ):
        expected: dict[str, str] = {}
        for number in range(2):
            out = study.base / f"{verb}-{number}" / "out"
            out.parent.mkdir()
            command = (verb, str(run), *more, "--out", str(out))
            plan = {**plan_of(out), "root": str(out.parent)}  # a folder in the making is beside it
            if number == 0:
                if start(study, out, plan, *command).wait(WAIT):
                    account.fail(f"{verb} fails by itself: {said(out)}")
                    return
                operations = traced(out)
                expected = checks.files_of(out)
                continue
            # Forward, since what is done is not done again.
            for at in sorted(draw.sample(range(len(operations)), min(kills, len(operations)))):
                operation, path = operations[at]
                harm = {"op": operation, "path": path, "nth": 1, "how": "kill"}
                plan = plan_of(out, when=draw.choice(["before", "after"]), **harm)
                code = start(study, out, {**plan, "root": str(out.parent)}, *command).wait(WAIT)
                clear(out)
                account.harms[f"{verb} killed"] += code == -signal.SIGKILL
                if (out / "filter.json").exists() or (out / ".export.json").exists():
                    break
            done = (out / "filter.json").exists() or (out / ".export.json").exists()
            if not done and start(study, out, None, *command).wait(WAIT):
                account.fail(f"{verb} does not go on: {said(out)}")
            if wrong := checks.differences(expected, checks.files_of(out)):
                account.fail(f"{verb}: {wrong[:4]} differ after kills")


# --- planted faults -------------------------------------------------------------------------------


def prove(base: Path, seed: int) -> None:
    """Each planted fault is found within a minute of search."""
    missed = []
    for number, plant in enumerate(PLANTS):
        place = base / f"plant-{number}"
        place.mkdir()
        more = {"PYTHONPATH": str(planted(plant, place / "package"))}
        (study,) = studies(place, {}, small=True)
        undisturbed(study)  # of the sound package: what it should leave
        study.more = more
        account, draw = Account(), random.Random(seed + number)
        began = time.monotonic()
        while not account.failures and time.monotonic() - began < 60:
            search(plant.search, study, draw, account)
        took = time.monotonic() - began
        found = bool(account.failures)
        print(f"{'found' if found else 'MISSED'} in {took:.0f} s: {plant.name}", flush=True)
        missed += [] if found else [plant.name]
        shutil.rmtree(place)
    if missed:
        raise SystemExit(f"not found: {', '.join(missed)}")


def search(kind: str, study: Study, draw: random.Random, account: Account) -> None:
    """Harm of the kind that shows such a fault, and no other: a full run draws all of them."""
    run = study.base / "search" / "run"
    shutil.rmtree(run.parent, ignore_errors=True)
    run.parent.mkdir(parents=True)
    whole = study.base / "whole" / "run"
    if kind == "damage":
        damage_everything(study, draw, account, time.monotonic() + 20)
        return
    stage = {"power": "selection", "score": "score"}.get(kind, "reference")
    if kind != "train":  # what comes before is taken from the whole run
        shutil.copytree(whole, run)
        for name in STAGES[STAGES.index(stage) :]:
            for start_of in dict(checks.STAGES)[name]:
                for path in [*run.glob(f"{start_of}*"), *run.glob(f"{start_of}.*")]:
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    there = [(o, p) for o, p in study.trace if checks.stage_of(p) == stage]
    if kind == "power":
        there = [("replace", "run.json"), ("replace", "selection/high-50/stage.json")]
    if kind == "score":
        there = [(o, p) for o, p in there if ".parts/00" in p]
    if kind == "marker":
        there = [(o, p) for o, p in there if "checkpoints" not in p and o in ("replace", "fsync")]
    operation, path = draw.choice(there)
    plan = plan_of(run, op=operation, path=path, nth=1, when="after", how="kill")
    start(study, run, plan).wait(WAIT)
    clear(run)
    if kind == "power":
        lose_unflushed(run, draw)
        check_power(study, run, f"{operation} {path}", account)
        return
    if to_the_end(study, run, account):
        compare(study, run, f"killed at {operation} {path}", account)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="of each study")
    parser.add_argument("--kills", type=int, default=3, help="a stage and round")
    parser.add_argument("--seconds", type=float, help="a short round in place of all of it")
    parser.add_argument("--prove", action="store_true", help="find planted faults")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    asked = parser.parse_args()
    print("seed", asked.seed, flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        base = Path(folder)
        if asked.prove:
            prove(base, asked.seed)
            return
        account, draw = Account(), random.Random(asked.seed)
        is_short = asked.seconds is not None
        until = began + asked.seconds if is_short else float("inf")
        for study in studies(base, {}, is_short):
            undisturbed(study)
            if is_short:
                until = time.monotonic() + asked.seconds
            for number in range(1 if is_short else asked.rounds):
                account.kills_wanted += 3
                end = until - (asked.seconds or 0) / 3
                kills = 1 if is_short else asked.kills
                one_round(study, str(number), kills, draw, account, end, is_short)
            if not is_short and study.name == "plain":
                one_round(study, "fifty", 5, draw, account, until)
                commands_killed(study, draw, account, 12)
            damage_everything(study, draw, account, until)
    kills = sum(account.kills.values())
    print(f"{kills} kills: {', '.join(f'{s} {account.kills[s]}' for s in STAGES)}")
    print(f"harms: {', '.join(f'{k} {n}' for k, n in account.harms.most_common())}")
    few = [s for s in STAGES if account.kills[s] < LEAST_KILLS]
    if few and not is_short:
        account.fail(f"hardly hit: {', '.join(few)}")
    print(f"{time.monotonic() - began:.0f} s, {len(account.failures)} failures, seed {asked.seed}")
    if account.failures:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
