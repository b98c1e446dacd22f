"""The commands that run one stage without a study: score and train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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


def data_config(data: list[str], text_key: str, id_key: str, domain_key: str, **more: Any) -> Any:
    from mlxprune.config.loading import resolve_path, validate_config

    paths = [resolve_path(entry, Path.cwd()) for entry in data]
    keys = {"paths": paths, "text_key": text_key, "id_key": id_key, "domain_key": domain_key}
    return validate_config({"data": keys, **more}, "command line")


def score(
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help="a folder or a hub id")],
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="where scores.parquet goes")],
    more: More = None,
    context: Annotated[int | None, typer.Option(help="window length in tokens")] = None,
    overlap: Annotated[int, typer.Option(help="unscored tokens that lead later windows")] = 0,
    long_documents: Annotated[str, typer.Option(help="windows or truncate")] = "windows",
    later_windows: Annotated[
        str, typer.Option(help="what they begin with: last, prefix or auto")
    ] = "auto",
    workers: Annotated[int | None, typer.Option(help="processes that score")] = None,
    max_unscored: Annotated[
        float, typer.Option(help="share of documents that may have no finite score")
    ] = 0.05,
    memory: Memory = None,
    text_key: TextKey = "text",
    id_key: IdKey = "id",
    domain_key: DomainKey = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score every document of any data with any model that mlx-lm can load."""
    from mlxprune.standalone.score import score_data

    section = {
        "context": context, "overlap": overlap, "long_documents": long_documents,
        "workers": workers, "max_unscored": max_unscored, "later_windows": later_windows,
    }  # fmt: skip
    config = data_config(
        [*data, *(more or [])], text_key, id_key, domain_key, score=section, memory=memory
    )
    scored = score_data(config, model, out, listeners(quiet))
    if as_json:
        print_json(scored)
    else:
        print(f"{scored.documents:,} documents, {scored.tokens:,} tokens: {scored.scores}")


def train(
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="where the model goes")],
    more: More = None,
    model: Annotated[str, typer.Option(help="a preset, or a folder with a config.json")] = "nano",
    tokens: Annotated[str, typer.Option(help="targets to train on, such as 20M")] = "20M",
    context: Annotated[int, typer.Option(help="context length in tokens")] = 512,
    vocab_size: Annotated[int, typer.Option(help="of the tokenizer to train")] = 8192,
    tokenizer: Annotated[
        str | None, typer.Option(help="or a pretrained one: path or hub id")
    ] = None,
    seed: Annotated[int, typer.Option(help="of weights and order")] = 0,
    learning_rate: Annotated[float | None, typer.Option(help="peak rate")] = None,
    batch_size: Annotated[int | None, typer.Option(help="sequences a step")] = None,
    memory: Memory = None,
    text_key: TextKey = "text",
    id_key: IdKey = "id",
    domain_key: DomainKey = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a model from scratch on some data; a twentieth of it is held out for validation."""
    from mlxprune.standalone.train import train_alone

    final = {
        "model": model, "tokens": tokens, "context": context, "seeds": [seed],
        "learning_rate": learning_rate, "batch_size": batch_size,
    }  # fmt: skip
    chosen = {"pretrained": tokenizer} if tokenizer else {"train": {"vocab_size": vocab_size}}
    paths = [*data, *(more or [])]
    config = data_config(
        paths, text_key, id_key, domain_key, final=final, tokenizer=chosen, memory=memory
    )
    trained = train_alone(config, out, listeners(quiet))
    if as_json:
        print_json(trained)
    else:
        passes = f"{trained.passes:.2f} passes"
        print(f"trained on {trained.tokens:,} targets, {passes}: {trained.model}")
