"""Draft: look at the data and the machine, and write a commented configuration to start from."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import dataclass

from mlxprune.data.decompression import codec_of
from mlxprune.data.readers import Row, RowKeys, Skip, jsonl_values, read_rows
from mlxprune.data.sources import Source, find_sources
from mlxprune.errors import DataError, one_line
from mlxprune.model.architecture import parameter_counts, preset_of
from mlxprune.planning.throughput import measure_throughput
from mlxprune.records import Json

TEXT_KEYS = ("text", "content", "body", "raw_content", "document", "article", "completion")
ID_KEYS = ("id", "_id", "doc_id", "uuid", "url", "title")
LOOKED_AT = 200
ARMS = 3  # pruned, random, matched
REFERENCE_SHARE = 0.12  # of the time, for the reference; scoring takes what the corpus takes
# From the smallest: (reference, final, vocabulary, context) that a night can hold.
SIZES = (
    ("pico", "pico", 2048, 256),
    ("pico", "nano", 4096, 512),
    ("nano", "micro", 8192, 512),
    ("micro", "mini", 16384, 1024),
    ("micro", "125m", 32768, 1024),
    ("125m", "1b", 65536, 2048),
)


@dataclass(frozen=True)
class DataSample:
    """What the first rows look like; ``bytes`` of text in all, about; ``rows`` to show: (id,
    domain, beginning of the text)."""

    forms: dict[str, int]
    left_out: int
    text_key: str
    id_key: str
    domains: dict[str, int]
    bytes: float
    rows: list[tuple[str | None, str, str]]


@dataclass(frozen=True)
class StudySizes:
    """Presets and targets for a study of so many hours."""

    reference: str
    final: str
    vocab_size: int
    context: int
    reference_tokens: int
    final_tokens: int
    hours: float


def look_at_data(paths: list[str]) -> DataSample:
    """What the data look like: format, keys, domains, sizes, and three rows. Raises DataError."""
    sources, left_out = find_sources(paths)
    rows: list[Json] = []
    for source in sources[:5]:
        with contextlib.suppress(
            DataError, OSError, ValueError
        ):  # pyarrow's errors are ValueErrors
            rows += _values(source)
    forms = Counter(s.form for s in sources)
    if forms.keys() == {"text"}:
        text_key, id_key = "text", "id"
    else:
        text_key = _pick(rows, TEXT_KEYS) or _longest_text(rows)
        id_key = _pick(rows, ID_KEYS) or "id"
    keys = RowKeys(text_key, id_key, "auto", None)
    seen = [r for s in sources[:50] for r in _some(s, keys)]
    documents = [r for r in seen if isinstance(r, Row)]
    if not documents:
        have = ", ".join(sorted({one_line(k) for r in rows for k in r})) or "none"
        fix = f"name the text key: data.text_key; the keys there are: {have}"
        raise DataError("no document found in the first rows", ", ".join(paths[:3]), fix)
    stored = sum(s.path.stat().st_size for s in sources)
    packed = any(_is_packed(s) for s in sources[:5])
    return DataSample(
        forms=dict(forms),
        left_out=len(left_out),
        text_key=text_key,
        id_key=id_key,
        domains=dict(Counter(d.domain for d in documents).most_common(12)),
        bytes=stored * (3.7 if packed else 1),
        rows=[(d.id, d.domain, one_line(d.text[:100])) for d in documents[:3]],
    )


def _values(source: Source) -> list[Json]:
    if source.form == "jsonl":
        rows = (value for _, _, value in jsonl_values(source.path))
        return [v for _, v in zip(range(LOOKED_AT), rows, strict=False) if isinstance(v, dict)]
    if source.form == "parquet":
        import pyarrow.parquet as pq

        batch = next(pq.ParquetFile(source.path).iter_batches(batch_size=LOOKED_AT), None)
        return list(batch.to_pylist()) if batch is not None else []
    return []


def _some(source: Source, keys: RowKeys) -> list[Row | Skip]:
    try:
        return [row for _, row in zip(range(LOOKED_AT), read_rows(source, keys), strict=False)]
    except DataError:
        return []


def _pick(rows: list[Json], names: tuple[str, ...]) -> str | None:
    for name in names:
        if sum(name in row for row in rows) > len(rows) / 2:
            return name
    return None


def _longest_text(rows: list[Json]) -> str:
    sizes: Counter[str] = Counter()
    for row in rows:
        for key, value in row.items():
            if isinstance(value, str):
                sizes[key] += len(value)
    return sizes.most_common(1)[0][0] if sizes else "text"


def _is_packed(source: Source) -> bool:
    with source.path.open("rb") as file:
        return source.form == "parquet" or codec_of(file.read(6)) != "plain"


def choose_sizes(text_bytes: float, hours: float) -> StudySizes:
    """The largest preset pair whose loop fits, with token budgets, from a probe of this machine."""
    seconds = hours * 3600
    best: StudySizes | None = None
    for reference, final, vocabulary, context in SIZES:
        reference_rates = measure_throughput(reference, vocabulary, context)
        rates = (
            reference_rates
            if reference == final
            else measure_throughput(final, vocabulary, context)
        )
        tokens = text_bytes / 3.7
        body, _ = parameter_counts({**preset_of(reference).config, "vocab_size": vocabulary})
        final_body, _ = parameter_counts({**preset_of(final).config, "vocab_size": vocabulary})
        reference_targets = min(
            20 * body, 0.3 * tokens, REFERENCE_SHARE * seconds * reference_rates.train
        )
        scoring = 0.6 * tokens / reference_rates.score
        left = seconds - scoring - reference_targets / reference_rates.train
        seeds = 3
        targets = min(
            0.9 * left * rates.train / (ARMS * seeds), 4 * 0.5 * 0.6 * tokens, 40 * final_body
        )
        if best is not None and (left <= 0 or targets < 5 * final_body):
            break
        best = StudySizes(
            reference=reference,
            final=final,
            vocab_size=vocabulary,
            context=context,
            reference_tokens=max(50_000, 10_000 * round(reference_targets / 10_000)),
            final_tokens=max(50_000, 10_000 * round(targets / 10_000)),
            hours=(
                scoring
                + reference_targets / reference_rates.train
                + ARMS * seeds * max(targets, 50_000) / rates.train
            )
            / 3600,
        )
    assert best is not None
    return best


def write_draft(seen: DataSample, sizes: StudySizes, paths: list[str], name: str) -> str:
    """The commented configuration as text; ``paths`` relative to where it will lie."""
    listed = ", ".join(_quoted(p) for p in paths)
    return f"""\
# Written by `mlxprune init`; every key and its default: docs/config.md.
# `mlxprune plan` says what this will do and take, `mlxprune run` does it.
version: 1
name: {name}
seed: 0

data:
  paths: [{listed}]
  text_key: {_quoted(seen.text_key)}
  id_key: {_quoted(seen.id_key)}
  domain_key: auto            # domain, source, meta.pile_set_name, else folder, else file

tokenizer:
  train: {{vocab_size: {sizes.vocab_size}}}   # or pretrained: path-or-hub-id

reference:                    # the small model whose perplexity ranks the documents
  model: {sizes.reference}
  tokens: {_count(sizes.reference_tokens)}
  context: {sizes.context}

selection:                    # try others later: the scores are reused
  criterion: high             # low, medium, high, or band: [a, b]
  rate: 0.5
  unit: tokens                # half of the documents can be a quarter of the text

final:                        # what the slice is judged by; about {sizes.hours:.1f} hours in all
  model: {sizes.final}
  tokens: {_count(sizes.final_tokens)}
  context: {sizes.context}
  arms: [pruned, random, matched]   # random: does it help; matched: is it more than the mix
  seeds: [0, 1, 2]            # one seed gives no verdict

evaluation:
  primary: macro              # named before training: macro, target (your own text) or tasks
  # target: [my-text.jsonl]
  # tasks: [my-tasks/]        # or the paper's: [gauntlet], with `gauntlet: path/to/llm-foundry`
  # limit: 200                # items a task
"""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _count(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.1f}M"
    return f"{number / 1e3:.0f}k"
