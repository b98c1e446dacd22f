"""The commands that work on scores alone: select and stability."""

from __future__ import annotations

import contextlib
import itertools
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from mlxprune.commands.options import AsJson, DomainKey, IdKey, TextKey, print_json
from mlxprune.errors import UsageError

Criteria = Annotated[
    list[str] | None,
    typer.Option("--criterion", help="low, medium, high, band or soft; repeatable"),
]
Rates = Annotated[
    list[str] | None, typer.Option("--rate", help="share to keep, as a decimal; repeatable")
]
Bands = Annotated[
    list[str] | None, typer.Option("--band", metavar="A,B", help="instead: ranks; repeatable")
]


# Over 60 lines: every option of the command is a parameter with its help.
def select(
    source: Annotated[
        str, typer.Argument(metavar="SCORES_OR_RUN", help="a run, a file, a folder or a pattern")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="where the slices go")],
    criterion: Criteria = None,
    rate: Rates = None,
    band: Bands = None,
    tokens: Annotated[
        list[str] | None, typer.Option("--tokens", help="instead: tokens, as in 20M; repeatable")
    ] = None,
    least: Annotated[
        str | None, typer.Option("--min", help="instead: the least perplexity or bits per byte")
    ] = None,
    most: Annotated[str | None, typer.Option("--max", help="and the largest")] = None,
    random: Annotated[
        bool, typer.Option("--random", help="and a random control of the size of each slice")
    ] = False,
    unit: Annotated[str, typer.Option(help="documents or tokens")] = "documents",
    by: Annotated[str, typer.Option(help="corpus, domain, or domain,length")] = "corpus",
    metric: Annotated[
        str, typer.Option(help="perplexity, bpb, adjusted, progress, or difference:A,B")
    ] = "perplexity",
    reference: Annotated[str | None, typer.Option(help="whose scores, of a run")] = None,
    centre: Annotated[
        str | None, typer.Option(help="for criterion soft: the likeliest rank; 0.5 by default")
    ] = None,
    spread: Annotated[str, typer.Option(help="for criterion soft: how wide")] = "0.2",
    protect: Annotated[
        list[str] | None, typer.Option(metavar="DOMAIN", help="keep it whole; repeatable")
    ] = None,
    floor: Annotated[
        list[str] | None, typer.Option(metavar="[DOMAIN=]SHARE", help="keep at least; repeatable")
    ] = None,
    cap: Annotated[
        list[str] | None, typer.Option(metavar="[DOMAIN=]SHARE", help="keep at most; repeatable")
    ] = None,
    min_tokens: Annotated[int, typer.Option(help="leave shorter documents out")] = 1,
    rule: Annotated[str, typer.Option(help="exact or paper")] = "exact",
    column: Annotated[
        str | None, typer.Option("--score", metavar="COLUMN", help="of scores made elsewhere")
    ] = None,
    id_column: Annotated[
        str, typer.Option("--id", metavar="COLUMN", help="of scores made elsewhere")
    ] = "id",
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="PATH", help="join by id: domains, sizes; repeatable"),
    ] = None,
    max_missing: Annotated[
        float, typer.Option(help="share of documents that may be on one side only")
    ] = 0.01,
    text_key: TextKey = "text",
    id_key: IdKey = "id",
    domain_key: DomainKey = "auto",
    seed: Annotated[int, typer.Option(help="breaks ties, draws soft slices")] = 0,
    as_json: AsJson = False,
) -> None:
    """Choose slices from scores; several criteria, rates and bands are every combination."""
    from mlxprune.config.loading import resolve_path, validate_config
    from mlxprune.standalone.slice import select_scores

    shared: dict[str, Any] = {
        "unit": unit, "metric": _metric(metric), "rule": rule, "reference": reference,
        "by": by.split(",") if "," in by else by, "protect": protect or [],
        "floor": _shares(floor, "--floor"), "cap": _shares(cap, "--cap"), "min_tokens": min_tokens,
    }  # fmt: skip
    soft = {"centre": centre or "0.5", "spread": spread}
    if criterion and band:  # --criterion band says no more than --band
        criterion = [c for c in criterion if c != "band"] or None
    if centre is not None and "soft" not in (criterion or []):
        raise UsageError("--centre is for soft slices", "--centre", "add --criterion soft")
    if band and rate and not criterion:
        fix = "give --criterion with --rate, or --band alone"
        raise UsageError("--band and --rate are two ways to say how much", "--band", fix)
    entries: list[dict[str, Any]] = [{"band": _pair(b)} for b in band or []]
    ends = {"min": least, "max": most}
    if least is not None or most is not None:
        entries.append({k: _decimal(v) for k, v in ends.items() if v is not None})
    entries += [
        {"criterion": c, "tokens": count, "unit": "tokens"}
        for c, count in itertools.product(criterion or ["high"], tokens or [])
    ]
    if rate or not entries or (criterion and not tokens):
        entries += [
            {"criterion": c, "rate": _decimal(r), **(soft if c == "soft" else {})}
            for c, r in itertools.product(criterion or ["high"], rate or ["0.5"])
        ]
    paths = [resolve_path(entry, Path.cwd()) for entry in data or []]
    keys = {"text_key": text_key, "id_key": id_key, "domain_key": domain_key}
    tree: dict[str, Any] = {"data": {"paths": paths or ["-"], **keys}, "seed": seed}
    names = {reference} if reference else set()
    if isinstance(shared["metric"], dict):
        names |= {*shared["metric"]["difference"]}
    names -= {"zlib", "unigram"}
    known = [{"name": n, "snapshots": [0.5]} for n in sorted(names)]  # a run knows its own
    tree |= {"references": known} if known else {}
    entries = [{**shared, **entry} for entry in entries]
    tree["selection"] = entries[0] if len(entries) == 1 else {"slices": entries}
    config = validate_config(tree, "command line")
    manifests = select_scores(
        source, config, out, column, id_column, bool(data), max_missing, random
    )
    if as_json:
        print_json(
            manifests[0]
            if len(manifests) == 1
            else {"slices": {manifest.name: manifest for manifest in manifests}}
        )
        return
    for manifest in manifests:
        kept, pool = manifest.kept_documents, manifest.pool_documents
        share, of = kept / pool, ""
        if manifest.kept_tokens is not None and manifest.pool_tokens is not None:
            share, of = manifest.kept_tokens / manifest.pool_tokens, " of the tokens"
        place = out if len(manifests) == 1 else out / manifest.name
        print(f"{manifest.name}: {kept:,} of {pool:,} documents, {share:.1%}{of}: {place}")
        for side, count in (manifest.missing or {}).items():
            if count:
                print(f"  {count:,} documents {side.replace('_', ' ')}: left out")
    last = manifests[0]
    place = out if len(manifests) == 1 else out / last.name
    print(f"the kept text: {_export_of(source, place, last.name, data)}")


def _export_of(source: str, place: Path, name: str, data: list[str] | None) -> str:
    """The command that hands over the text of a slice of a run, of scores, or of data."""
    from mlxprune.report.handover import export_command

    folder = Path(source)
    of_score = (folder / "corpus").is_dir() or (folder.parent / "corpus").is_dir()
    if (folder / "run.json").exists() or (of_score and not data):
        held = folder if folder.is_dir() else folder.parent
        return export_command(str(held), str(place), f"{name}-text")
    return export_command(str(place), None, f"{name}-text", data or ["DATA"])


def _metric(text: str) -> Any:
    name, _, rest = text.partition(":")
    return {"difference": rest.split(",")} if name == "difference" else text


def _pair(text: str) -> list[str]:
    ends = text.split(",")
    if len(ends) != 2:
        raise UsageError(f"{text!r} is not two shares", "--band", "write --band 0.2,0.4")
    return ends


def _decimal(text: str) -> Any:
    with contextlib.suppress(ArithmeticError):
        if Decimal(text).is_finite():
            return Decimal(text)
    return text


def _shares(given: list[str] | None, option: str) -> Any:
    """``0.2`` for every domain, or ``web=0.2`` for one."""
    if not given:
        return None
    named = [entry.rpartition("=") for entry in given]
    if len(named) == 1 and not named[0][1]:
        return _decimal(named[0][2])
    if any(not equals for _, equals, _ in named):
        raise UsageError(
            "one share for all domains, or one for each named", option, f"{option} web=0.2"
        )
    if len({domain for domain, _, _ in named}) < len(named):
        raise UsageError("a domain is named twice", option, "give each one share")
    return {domain: _decimal(share) for domain, _, share in named}


def stability(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="runs over the same corpus")
    ],
    criterion: Annotated[
        str | None, typer.Option(help="compare this slice instead of the first run's")
    ] = None,
    rate: Annotated[str | None, typer.Option(help="its rate")] = None,
    unit: Annotated[str | None, typer.Option(help="documents or tokens")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the ranks of references: seeds, sizes, early copies, token frequency."""
    from mlxprune.experiment.rank_stability import compare_references, stability_lines

    wanted = {"criterion": criterion, "rate": _decimal(rate) if rate else None, "unit": unit}
    compared = compare_references(folders, {k: v for k, v in wanted.items() if v is not None})
    if as_json:
        print_json(compared)
    else:
        print("\n".join(stability_lines(compared)))
