"""The commands that hand over text: export and filter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlxprune.commands.options import (
    AsJson,
    Data,
    DomainKey,
    IdKey,
    Memory,
    More,
    Quiet,
    TextKey,
    listeners,
    print_json,
)
from mlxprune.errors import one_line
from mlxprune.records import plain
from mlxprune.run.folder import existing_run

if TYPE_CHECKING:
    from mlxprune.config.data import Data as DataSection
    from mlxprune.filtering.result import FilterResult

SliceName = Annotated[
    str | None,
    typer.Option(
        "--slice", metavar="NAME", help="of the run, or a folder of select; the first by default"
    ),
]


# Over 60 lines: every option of the command is a parameter with its help.
def export(
    source: Annotated[
        Path, typer.Argument(metavar="RUN", help="a run, a folder of score, or a slice with --data")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="a new folder")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="jsonl, parquet, hf, mlx-lm, dolma, data-juicer, ids, scores or bundle",
        ),
    ] = "jsonl",
    slice_name: SliceName = None,
    part: Annotated[
        str | None,
        typer.Option(
            help="kept, dropped, pool, reference, validation, test or arm:NAME; kept by default"
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="fields of the rows, and id, domain, perplexity, rank and others"
        ),
    ] = None,
    compress: Annotated[str | None, typer.Option(help="zstd, gzip or none")] = None,
    shard_size: Annotated[str, typer.Option(help="bytes of rows in a file, at least")] = "256M",
    shuffle: Annotated[
        int | None, typer.Option(metavar="SEED", help="shuffle; else in the order of the corpus")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", metavar="PATH", help="what scores made elsewhere are of; repeatable"
        ),
    ] = None,
    text_key: TextKey = "text",
    id_key: IdKey = "id",
    domain_key: DomainKey = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the text of a slice, or of any part of a run, as files that other tools read."""
    from mlxprune.commands.console import counting
    from mlxprune.commands.single_stages import data_config
    from mlxprune.exporting.export import export as export_text

    named = None
    if data:
        named = data_config(data, text_key, id_key, domain_key).data
    try:
        record = export_text(
            source,
            out,
            to,
            slice_name,
            part,
            compress,
            shard_size,
            [name.strip() for name in columns.split(",")] if columns else None,
            shuffle,
            named,
            counting("export", "bytes", quiet),
        )
    except KeyboardInterrupt:
        print("interrupted; the same command goes on behind the last whole file", file=sys.stderr)
        raise
    if as_json:
        print_json({"out": str(out), **plain(record)})
        return
    files = sum(len(shard.files) for shard in record.shards)
    words = [record.what.get("slice"), record.what.get("part")]
    what = ", ".join(str(word) for word in words if word) or "run"
    print(f"{what}: {record.documents:,} documents in {files:,} files: {out}")
    for note in record.notes:
        print(f"  {note}")


# Over 60 lines: every option of the command is a parameter with its help.
def filter_command(
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="a new folder")],
    source: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="a run that has been selected from")
    ] = None,
    more: More = None,
    slice_name: SliceName = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="by the ranks of the new text alone, in two passes")
    ] = False,
    rate: Annotated[
        str | None, typer.Option(help="with --exact: another share than the slice's")
    ] = None,
    new_domains: Annotated[
        str, typer.Option(help="that the study never saw: whole (its cut over all), keep or drop")
    ] = "whole",
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="instead of a run: a folder or a hub id")
    ] = None,
    least: Annotated[
        str | None, typer.Option("--min", help="with --model: least perplexity, or bits per byte")
    ] = None,
    most: Annotated[str | None, typer.Option("--max", help="and the largest")] = None,
    metric: Annotated[str, typer.Option(help="with --model: perplexity or bpb")] = "perplexity",
    context: Annotated[
        int | None, typer.Option(help="with --model: window length in tokens")
    ] = None,
    compress: Annotated[str, typer.Option(help="zstd, gzip or none, for rows of lines")] = "zstd",
    max_bad: Annotated[
        float, typer.Option(help="share of bad rows above which to stop", min=0, max=1)
    ] = 0.01,
    workers: Annotated[int | None, typer.Option(help="processes that filter")] = None,
    memory: Memory = None,
    text_key: Annotated[
        str | None, typer.Option("--text-key", help="where the text is; found by itself")
    ] = None,
    id_key: Annotated[str | None, typer.Option("--id-key", help="where the id is")] = None,
    domain_key: Annotated[
        str | None, typer.Option("--domain-key", help="where the domain is")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Keep of new text what a slice of a study would keep of it."""
    from mlxprune.config.loading import resolve_path
    from mlxprune.filtering.filter import filter as filter_new

    paths = [*data, *(more or [])]
    if model is not None and source is not None:  # `--data a b`: b is no run
        paths, source = [str(source), *paths], None
    paths = [resolve_path(path, Path.cwd()) for path in paths]
    keys = {"text_key": text_key, "id_key": id_key, "domain_key": domain_key}
    given = {key: value for key, value in keys.items() if value is not None}
    result = filter_new(
        _new_data(paths, given, source).model_copy(update={"max_bad": max_bad}),
        out,
        run=source,
        slice_name=slice_name,
        exact=exact,
        rate=rate,
        new_domains=new_domains,
        model=model,
        least=least,
        most=most,
        metric=metric,
        context=context,
        compress=compress,
        workers=workers,
        memory=memory,
        listeners=listeners(quiet),
    )
    if as_json:
        print_json({"out": str(out), **plain(result)})
    else:
        _print_filtered(result, out)


def _new_data(paths: list[str], given: dict[str, str], run: Path | None) -> DataSection:
    """How the new files are read: as the command says; as the study's were, where they have its
    keys; else as they look."""
    from mlxprune.config.loading import load_config, validate_config
    from mlxprune.data.accounts import keys_there_are
    from mlxprune.data.sources import find_sources
    from mlxprune.planning.draft_config import look_at_data

    def data_of(keys: dict[str, Any]) -> DataSection:
        return validate_config({"data": {"paths": paths, **keys}}, "command line").data

    study = None if run is None else load_config(existing_run(run).config).data
    if "text_key" in given:
        return data_of(given)
    if study is not None and not any(entry.has_keys for entry in study.paths):
        alike = study.model_dump(mode="json", include={"text_key", "id_key", "domain_key"})
        sources = find_sources(data_of({})).sources
        there = set(keys_there_are(sources))
        named = [key.split(".")[0] for text in study.text_key for key in text.split("+")]
        if {*named} & there or all(source.form == "text" for source in sources):
            host = study.domain_key if isinstance(study.domain_key, str) else study.domain_key.host
            by_place = host in ("auto", "file") or host.startswith("path:")
            if not by_place and host.split(".")[0] not in there:
                del alike["domain_key"]  # the new files have none
            if study.id_key.split(".")[0] not in there:
                del alike["id_key"]
            return data_of({**alike, **given})
    seen = look_at_data(paths).data
    own = dict.fromkeys(given)  # what is given holds for every file
    entries = [entry.model_copy(update=own) for entry in seen.paths]
    found = seen.model_copy(update={"paths": entries}).model_dump(mode="json")
    return validate_config({"data": {**found, **given}}, "command line").data


DOMAINS_SHOWN = 20


def _print_filtered(result: FilterResult, out: Path) -> None:
    """The table of domains, what the slice means here, and where the text is."""
    from rich.console import Console as Rich
    from rich.text import Text

    from mlxprune.experiment.document_account import account_sentence
    from mlxprune.report.terminal import plain_table

    rich = Rich(highlight=False)
    columns = ("documents", "MB", "kept", "tokens, %", "study, %", "median", "shift")
    table = plain_table(f"{result.slice} of {result.by}, on new text", "domain", *columns)
    rows = result.domains[:DOMAINS_SHOWN]
    for row in [*rows, result.whole]:
        name = Text(one_line(row.domain)) if row is not result.whole else "all"
        table.add_row(
            name,
            f"{row.documents:,}",
            f"{row.bytes / 1e6:,.1f}",
            f"{row.kept_documents:,}",
            f"{100 * row.share:.1f}",
            f"{100 * row.study_share:.1f}" if row.study_share is not None else "",
            f"{row.median_at:.0f} %" if row.median_at is not None else "",
            f"{row.shift:.2f}" if row.shift is not None else "",
            style="bold" if row is result.whole else None,
        )
    rich.print(table)
    if len(result.domains) > len(rows):
        rich.print(Text(f"{len(result.domains) - len(rows)} more domains are in filter.json"))
    if any(row.median_at is not None for row in [*rows, result.whole]):
        print("tokens, %: kept of the new tokens; study, %: what the study kept of its own")
        print("median: the percentile of the study's scores at which the new median stands")
        print("shift: stability index; 0 is the same distribution, above 0.25 another one")
    rich.print(Text(account_sentence(result.account)))
    low, high = result.limits
    if low is not None or high is not None:
        both = (("from", low), ("to", high))
        ends = [f"{word} {end:,.4g}" for word, end in both if end is not None]
        print(f"kept: {' '.join(ends)}, {result.metric}")
    for note in result.notes:
        rich.print(Text(one_line(note)))
    if result.new_domains:
        some = ", ".join(map(one_line, result.new_domains[:8]))
        more = ", ..." if len(result.new_domains) > 8 else ""
        rich.print(Text(f"domains that the study never saw: {some}{more}"))
    for warning in result.warnings:
        rich.print(Text(f"warning: {one_line(warning)}"))
    print(f"kept text: {out / 'kept'} ({result.kept_files:,} files); scores: {out / 'scores'}")
