"""The commands that hand over text: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlxprune.commands.options import AsJson, DomainKey, IdKey, Quiet, TextKey, print_json

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
    from mlxprune.export.export_documents import export_documents
    from mlxprune.records import plain

    named = None
    if data:
        named = data_config(data, text_key, id_key, domain_key).data
    record = export_documents(
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
    if as_json:
        print_json({"out": str(out), **plain(record)})
        return
    files = sum(len(shard.files) for shard in record.shards)
    named = [record.what.get("slice"), record.what.get("part")]
    what = ", ".join(str(name) for name in named if name) or "run"
    print(f"{what}: {record.documents:,} documents in {files:,} files: {out}")
    for note in record.notes:
        print(f"  {note}")
