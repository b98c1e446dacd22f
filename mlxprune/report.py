"""Report: what a run did and found, as one object for machines and one HTML file for people."""

from __future__ import annotations

import io
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from mlxprune import arms, corpus, evaluate, runs, selection, split, tokens
from mlxprune.config import Config
from mlxprune.errors import UsageError, one_line
from mlxprune.runs import RunFolder
from mlxprune.yamlfile import write_yaml

VERSION = 1
PERCENTILES = (1, 25, 50, 75, 99)
SAMPLE_CHARACTERS = 600
# Okabe and Ito's colours, which people with any colour vision tell apart.
BLUE, ORANGE, GREEN, GREY, PINK, YELLOW = (
    "#0072b2", "#d55e00", "#009e73", "#8a8a8a", "#cc79a7", "#b58900",
)  # fmt: skip


def result(run: RunFolder, config: Config, state: dict[str, Any]) -> dict[str, Any]:
    """The object that ``run --json`` prints: whatever of it exists so far."""
    found: dict[str, Any] = {
        "run": str(run.path),
        "state": state["state"],
        "stages": {
            name: {"state": stage["state"], "seconds": stage.get("seconds")}
            for name, stage in state["stages"].items()
        },
    }
    if runs.is_current(run, run.corpus):
        summary = runs.read_json(run.corpus / "summary.json")
        found["corpus"] = {
            k: v for k, v in summary.items() if k not in ("domain_bytes", "left_out")
        }
    name = config.selection.name()
    if runs.is_current(run, run.selection(name)):
        manifest = runs.read_json(run.selection(name) / "manifest.json")
        keys = ("kept_documents", "kept_tokens", "pool_documents", "pool_tokens")
        found["selection"] = {k: manifest[k] for k in keys}
        found["slices"] = {name: manifest}
    found["arms"] = _arms(run, config)
    found["verdict"] = verdict(run, config)
    return found


def _arms(run: RunFolder, config: Config) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for arm in arms.arms_of(config):
        if not runs.is_current(run, run.final(arm.name)):
            continue
        training = runs.read_json(run.final(arm.name) / "training.json")
        seed = arms.summary_of(training)
        if runs.is_current(run, run.evaluation(arm.name)):
            seed["test"] = runs.read_json(run.evaluation(arm.name))
        entry = found.setdefault(arm.arm, {**arms.summary_of(training), "seeds": {}})
        entry["seeds"][str(arm.seed)] = seed
    for entry in found.values():
        held_out = [s["validation_bpb"] for s in entry["seeds"].values() if s["validation_bpb"]]
        entry["validation_bpb"] = float(np.mean(held_out)) if held_out else None
        for figure in ("macro", "original_mix"):
            values = [s["test"][figure] for s in entry["seeds"].values() if "test" in s]
            entry[f"test_{figure}"] = float(np.mean(values)) if values else None
    return found


def verdict(run: RunFolder, config: Config) -> dict[str, Any] | None:
    """Pruned against random in macro bits per byte of the test part; None before both exist."""
    by_kind: dict[str, dict[int, Path]] = {"pruned": {}, "random": {}}
    for arm in arms.arms_of(config):
        path = run.evaluation(arm.name)
        if runs.is_current(run, path):
            by_kind[arm.kind][arm.seed] = path.with_name(runs.read_json(path)["nll_file"])
    seeds = sorted(by_kind["pruned"].keys() & by_kind["random"].keys())
    if not seeds:
        return None
    names = corpus.open_corpus(run.corpus, config.data)
    held = tokens.open_tokens(run.tokens())
    members = split.open_split(run.split).members(split.TEST)
    documents = evaluate.test_documents(names, held, members, config.seed)
    index = names.index[documents]
    loaded = {k: [np.load(paths[s]) for s in seeds] for k, paths in by_kind.items()}
    compared = evaluate.compare(
        loaded["pruned"],
        loaded["random"],
        index["bytes"],
        index["domain"],
        names.domains,
        config.seed,
    )
    return {
        "primary": config.evaluation.primary,
        "unit": "bits per byte on the test part, lower is better",
        "arm": config.selection.name(),
        "control": arms.control_name(config.selection),
        "seeds": seeds,
        **compared,
    }


def sentence(found: dict[str, Any]) -> str:
    """What to do next, in one plain sentence."""
    told = found.get("verdict")
    if told is None:
        return "Run it to the end to compare the slice with a random one of equal size."
    change = abs(told["difference"])
    side = "lower (better)" if told["difference"] < 0 else "higher (worse)"
    seen = (
        f"{told['arm']} ended {change:.4f} bits per byte {side} than {told['control']} "
        f"on the held-out domains (interval {told['interval'][0]:+.4f} to "
        f"{told['interval'][1]:+.4f})"
    )
    if len(told["seeds"]) == 1:
        return f"{seen}; with one seed that is no verdict: add seeds (final.seeds: [0, 1, 2])."
    if told["verdict"] == "better":
        return f"{seen}: train your model on selection/{told['arm']}."
    if told["verdict"] == "worse":
        return f"{seen}: try another criterion or rate, the scores are reused."
    return f"{seen}: undecided; more seeds or more targets would tell, or try another slice."


def write(run: RunFolder, config: Config, state: dict[str, Any]) -> None:
    """report.html: one file, no network, no script; every text from data is escaped."""
    import jinja2

    if not runs.is_current(run, run.corpus):
        fix = "run it first: mlxprune run CONFIG"
        raise UsageError("there is nothing to report yet", str(run.path), fix)
    runs.marker_path(run.report).unlink(missing_ok=True)  # only the stage calls it current
    found = result(run, config, state)
    facts = {
        "found": found,
        "name": config.name,
        "sentence": sentence(found),
        "config": write_yaml(config.model_dump(mode="json")),
        "state": state,
        "split": split.open_split(run.split).table if runs.is_current(run, run.split) else None,
        "duration": runs.duration,
        "one_line": one_line,
        "math": math,
    }
    for part in (_token_facts, _score_facts, _curve_facts, _test_facts):
        facts |= part(run, config)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((files("mlxprune") / "report.html.j2").read_text())
    runs.write_atomic(run.report, template.render(**facts))


def _token_facts(run: RunFolder, config: Config) -> dict[str, Any]:
    if not runs.is_current(run, run.tokens()):
        return {"tokens": None}
    facts = runs.read_json(run.tokens() / "tokens.json")
    parts = {split.PARTS[int(code)]: count for code, count in facts["parts"].items()}
    return {"tokens": {**facts, "parts": parts}}


def _score_facts(run: RunFolder, config: Config) -> dict[str, Any]:
    folder = run.selection(config.selection.name())
    empty: dict[str, Any] = {"histogram": None, "mix": None, "samples": [], "score": None}
    if not runs.is_current(run, folder):
        return empty
    scores = selection.read_scores(run.scores())
    manifest = runs.read_json(folder / "manifest.json")
    kept = np.load(folder / "kept.npy")
    return {
        "histogram": _histogram(scores, kept, manifest),
        "mix": _mix(manifest["domains"]),
        "samples": _samples(run, config, scores, kept),
        "score": (runs.marker(run.scores()) or {})["summary"],
    }


def _curve_facts(run: RunFolder, config: Config) -> dict[str, Any]:
    folders = [("reference", run.reference())]
    folders += [(arm.name, run.final(arm.name)) for arm in arms.arms_of(config)]
    trained = [
        (name, runs.read_json(folder / "training.json"))
        for name, folder in folders
        if runs.is_current(run, folder) and (folder / "training.json").exists()
    ]
    return {
        "reference_curve": _curves([t for t in trained if t[0] == "reference"]),
        "arm_curves": _curves([t for t in trained if t[0] != "reference"]),
    }


def _test_facts(run: RunFolder, config: Config) -> dict[str, Any]:
    found = _arms(run, config)
    rows: dict[str, dict[str, float]] = {}
    documents: dict[str, int] = {}
    for name, entry in found.items():
        tests = [s["test"] for s in entry["seeds"].values() if "test" in s]
        for test in tests:
            documents |= test["documents"]
            for domain, bits in test["domains"].items():
                rows.setdefault(domain, {})
                rows[domain][name] = rows[domain].get(name, 0.0) + bits / len(tests)
    names = [n for n, e in found.items() if e["test_macro"] is not None]
    return {"test_rows": rows, "test_arms": names, "test_documents": documents}


# --- pictures ---------------------------------------------------------------------------------


def _figure(width: float = 8.0, height: float = 3.0) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> Any:
    import markupsafe
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "mlxprune", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    drawn = out.getvalue()
    return markupsafe.Markup(drawn[drawn.index("<svg") :])


def _label(text: str) -> str:
    """A name from data, safe for matplotlib, which reads formulas between dollar signs."""
    short = one_line(text)
    return (short if len(short) <= 28 else short[:27] + "\N{HORIZONTAL ELLIPSIS}").replace(
        "$", r"\$"
    )


def _histogram(scores: selection.Scores, kept: np.ndarray, manifest: dict[str, Any]) -> Any:
    mean = scores.nll_sum / scores.num_tokens
    low, high = np.quantile(mean, [0.001, 0.999])
    edges = np.linspace(low, high + 1e-9, 81)
    weights = scores.num_tokens / 1e6
    figure, axes = _figure(8, 3.2)
    axes.hist(
        [mean[kept], mean[~kept]],
        edges,
        weights=[weights[kept], weights[~kept]],
        stacked=True,
        color=[BLUE, "#d8d8d8"],
        label=[f"kept: {manifest['name']}", "dropped"],
    )
    for value, side in ((manifest["lowest"], "lowest kept"), (manifest["highest"], "highest kept")):
        if manifest["slice"]["metric"] == "perplexity" and low < value < high:
            axes.axvline(value, color=ORANGE, linestyle="--", linewidth=1.2)
            axes.annotate(
                f" {side}: {math.exp(value):.1f}",
                (value, 0.97),
                xycoords=("data", "axes fraction"),
                va="top",
                color=ORANGE,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
            )
    axes.set_xlabel("log perplexity (mean negative log-likelihood, nats a token)")
    axes.set_ylabel("million tokens")
    axes.legend(frameon=False)
    return _svg(figure)


def _mix(table: list[dict[str, Any]]) -> Any:
    rows = sorted(table, key=lambda r: -r["share_before"])[:24]
    figure, axes = _figure(8, 0.9 + 0.36 * len(rows))
    at = np.arange(len(rows))
    axes.barh(
        at - 0.2, [100 * r["share_before"] for r in rows], 0.38, color="#b8b8b8", label="pool"
    )
    axes.barh(at + 0.2, [100 * r["share_after"] for r in rows], 0.38, color=BLUE, label="kept")
    axes.set_yticks(at, [_label(r["domain"]) for r in rows])
    axes.invert_yaxis()
    axes.set_xlabel("share of tokens, %")
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure)


def _curves(trained: list[tuple[str, dict[str, Any]]]) -> Any:
    if not trained:
        return None
    figure, axes = _figure(8, 3.2)
    colours: dict[str, str] = {}
    palette = [BLUE, ORANGE, GREEN, PINK, YELLOW, GREY]
    for name, training in trained:
        arm = name.rpartition("-s")[0] or name
        seen = arm in colours
        colour = colours.setdefault(arm, palette[len(colours) % len(palette)])
        size = training["recipe"]["batch_size"] * training["recipe"]["context"] / 1e6
        steps, losses, _ = zip(*training["history"]["train"], strict=True)
        axes.plot(
            np.array(steps) * size,
            losses,
            color=colour,
            alpha=0.75,
            linewidth=1.1,
            label=None if seen else arm,
        )
        boundary = training["unique_tokens"] / 1e6
        passes = int(training["passes"] + 1e-9)
        for number in range(1, min(passes, 40) + 1):
            if not seen and number * boundary < steps[-1] * size:
                axes.axvline(number * boundary, color=colour, linestyle=":", linewidth=0.9)
    lowest = min(p[1] for _, t in trained for p in t["history"]["train"])
    starts = sorted(p[1] for _, t in trained for p in t["history"]["train"][5:]) or [lowest + 1]
    axes.set_ylim(lowest - 0.1, starts[int(0.98 * (len(starts) - 1))] + 0.3)
    axes.set_xlabel("million targets (dotted: a pass over the unique tokens ends)")
    axes.set_ylabel("training loss, nats a token")
    axes.legend(frameon=False)
    return _svg(figure)


# --- documents to read ------------------------------------------------------------------------


def _samples(
    run: RunFolder, config: Config, scores: selection.Scores, kept: np.ndarray
) -> list[dict[str, Any]]:
    """Documents at percentiles of the rank and around each cut, with their score and domain."""
    names = corpus.open_corpus(run.corpus, config.data)
    which = "reference" if config.reference.pretrained else "main"
    members = split.open_split(run.split).members(split.TRAIN)
    pool = members[tokens.open_tokens(run.tokens(which)).lengths(members) > 0]
    values = selection.metric(scores, config.selection.metric)
    order = selection.ranking(values, scores.key, config.seed)
    count = config.report.samples
    places: list[tuple[str, int]] = [
        (f"{p}th percentile".replace("1th", "1st"), round(p / 100 * (len(order) - 1)))
        for p in PERCENTILES
    ]
    ordered = kept[order]
    for at in (np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist()[:2]:
        places.append(("just below a cut" if at else "cut", at - 1 - count // 2))
        places.append(("just above a cut", at + count // 2))
    chosen: list[tuple[str, int]] = []
    for label, middle in places:
        first = max(0, min(middle - count // 2, len(order) - count))
        chosen += [(label, int(order[r])) for r in range(first, min(first + count, len(order)))]
    wanted = np.zeros(len(names), bool)
    wanted[pool[[d for _, d in chosen]]] = True
    text_of = dict(names.texts(wanted))
    groups: dict[str, dict[str, Any]] = {}
    for label, d in chosen:
        text = text_of[int(pool[d])]
        groups.setdefault(label, {"label": label, "documents": []})["documents"].append(
            {
                "perplexity": float(np.exp(scores.nll_sum[d] / scores.num_tokens[d])),
                "tokens": int(scores.num_tokens[d]),
                "domain": names.domains[int(names.index["domain"][pool[d]])],
                "kept": bool(kept[d]),
                "text": visible(text[:SAMPLE_CHARACTERS]),
                "cut": len(text) > SAMPLE_CHARACTERS,
            }
        )
    return list(groups.values())


def visible(text: str) -> str:
    """Text with what cannot be seen, or reorders a line, written out as escapes."""
    return "".join(
        c if c in "\n\t" or c.isprintable() else ascii(c)[1:-1] for c in text.replace("\r\n", "\n")
    )
