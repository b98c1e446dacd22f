"""Draft: look at the data and the machine, and write a commented configuration to start from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlxprune.config.data import Data, HostKey, SourceEntry
from mlxprune.data.rows import RowKeys
from mlxprune.data.sources import FileProblem, FoundFiles, find_sources
from mlxprune.errors import DataError, one_line
from mlxprune.model.architecture import parameter_counts, preset_of
from mlxprune.planning.file_look import FileLook, look_at_file
from mlxprune.planning.throughput import measure_throughput

FILES_LOOKED_AT = 400  # of an entry; further files are taken for what those are
OWN_ENTRIES = 50  # files of one entry that are written out, where their keys differ
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
class DataLook:
    """What the data look like: ``files``, those that were looked at; ``found``, all that there is;
    ``entries``, what to write into data.paths; ``keys``, those of entries that say nothing."""

    files: list[FileLook]
    found: FoundFiles
    entries: list[SourceEntry]
    keys: RowKeys
    domains: dict[str, int]
    bytes: float

    @property
    def data(self) -> Data:
        """The section that reads these files."""
        domain: str | HostKey = self.keys.domain
        return Data(
            paths=self.entries,
            text_key=self.keys.text,
            id_key=self.keys.id,
            domain_key=HostKey(host=self.keys.domain) if self.keys.host else domain,
        )

    @property
    def problems(self) -> list[FileProblem]:
        """Files that cannot be read as they are."""
        return _problems(self.found, self.files)


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


def look_at_data(paths: list[str]) -> DataLook:
    """What the data look like, file by file. Raises DataError where no file can be used."""
    data = Data(paths=[SourceEntry(path=path) for path in paths])
    found = find_sources(data)
    looked: list[FileLook] = []
    size, domains = 0.0, Counter[str]()
    for number in range(len(paths)):
        members = [source for source in found.sources if source.entry == number]
        step = -(-len(members) // FILES_LOOKED_AT)  # of very many files, some
        mine = [look_at_file(source) for source in members[:: max(step, 1)]]
        stored = sum(source.path.stat().st_size for source in members)
        seen = sum(look.source.path.stat().st_size for look in mine)
        factor = stored / seen if step > 1 and seen else 1.0
        size += factor * sum(look.bytes for look in mine)
        for look in mine:
            domains.update({d: round(n * factor) for d, n in look.domains.items()})
        looked += mine
    if not any(look.documents for look in looked):
        problems = _problems(found, looked)
        if len(problems) == 1:
            raise DataError(problems[0].problem, problems[0].path, problems[0].fix)
        details = [f"{p.path}: {p.problem}; {p.fix}" for p in problems]
        where = ", ".join(paths[:3])
        raise DataError("no document found", where, "give files with text", details)
    keys = _usual_keys(looked)
    broken = {problem.entry for problem in _problems(found, looked)}
    entries = [
        entry
        for number, path in enumerate(paths)
        for entry in _entries(path, number, looked, keys, number in broken)
    ]
    return DataLook(looked, found, entries, keys, dict(domains.most_common()), size)


def _problems(found: FoundFiles, looked: list[FileLook]) -> list[FileProblem]:
    own = [FileProblem(str(f.source.path), *f.problem, f.source.entry) for f in looked if f.problem]
    return [*found.problems, *own]


def _usual_keys(looked: list[FileLook]) -> RowKeys:
    """The keys that most files have, which are those of the section; the usual ones where every
    file has others."""
    with_keys = [look for look in looked if look.documents and look.source.form != "text"]
    kinds = Counter(look.keys for look in with_keys).most_common(1)
    if not kinds or (kinds[0][1] == 1 and len(with_keys) > 1):
        return RowKeys()
    return kinds[0][0]


def _entries(
    path: str, number: int, looked: list[FileLook], usual: RowKeys, broken: bool
) -> Iterator[SourceEntry]:
    """What to write for a path: itself, with keys where they are not the usual ones; its files one
    by one where their keys differ, or some are ``broken``; of too many one list of text keys."""
    members = [look for look in looked if look.source.entry == number and look.documents]
    kinds = Counter(look.keys for look in members if look.source.form != "text")
    if not members:
        return
    if len(kinds) < 2 and not broken:
        yield _entry(path, next(iter(kinds), usual), usual)
    elif len(members) <= (FILES_LOOKED_AT if broken else OWN_ENTRIES):
        for look in members:
            keys = look.keys if look.source.form != "text" else usual
            yield _entry(str(look.source.path), keys, usual)
    else:
        texts = tuple(dict.fromkeys(key for keys, _ in kinds.most_common() for key in keys.text))
        yield SourceEntry(path=path, text_key=texts)


def _entry(path: str, keys: RowKeys, usual: RowKeys) -> SourceEntry:
    own: dict[str, object] = {}
    if keys.text != usual.text:
        own["text_key"] = keys.text[0] if len(keys.text) == 1 else [*keys.text]
    if keys.id != usual.id:
        own["id_key"] = keys.id
    if (keys.domain, keys.host) != (usual.domain, usual.host):
        own["domain_key"] = {"host": keys.domain} if keys.host else keys.domain
    return SourceEntry.model_validate({"path": path, **own})


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


def write_draft(seen: DataLook, sizes: StudySizes, beside: Path, name: str, hours: float) -> str:
    """The commented configuration as text, with paths relative to the folder where it will lie."""
    domain = _domain_key(seen.keys)
    return f"""\
# Written by `mlxprune init`; every key and its default: docs/config.md.
# `mlxprune plan` says what this will do and take, `mlxprune run` does it.
version: 1
name: {name}
seed: 0
hours: {hours:g}                    # the time that you have: plan holds the study against it

data:
  paths:{_listed(seen.entries, beside)}
  text_key: {_texts(seen.keys)}
  id_key: {_quoted(seen.keys.id)}
  domain_key: {domain:<16}# auto: domain, source, meta.pile_set_name, else folder, else file
{"".join(f"  # not used: {line}" for line in _unused(seen))}\
  # mix: {{web: 0.75, code: 0.25}}   # compose the corpus to shares by domain

tokenizer:
  train: {{vocab_size: {sizes.vocab_size}}}   # or pretrained: path-or-hub-id

reference:                    # the small model whose perplexity ranks the documents
  model: {sizes.reference}
  tokens: {count_text(sizes.reference_tokens)}
  context: {sizes.context}

selection:                    # try others later: the scores are reused
  criterion: high             # low, medium, high, or band: [a, b]
  rate: 0.5
  unit: tokens                # half of the documents can be a quarter of the text

final:                        # what the slice is judged by; about {sizes.hours:.1f} hours in all
  model: {sizes.final}
  tokens: {count_text(sizes.final_tokens)}
  context: {sizes.context}
  arms: [pruned, random, matched]   # random: does it help; matched: is it more than the mix
  seeds: [0, 1, 2]            # one seed gives no verdict

evaluation:
  primary: macro              # named before training: macro, target (your own text) or tasks
  # target: [my-text.jsonl]
  # tasks: [my-tasks/]        # or the paper's: [gauntlet], with `gauntlet: path/to/llm-foundry`
  # limit: 200                # items a task
"""


def _listed(entries: list[SourceEntry], beside: Path) -> str:
    """The paths, on one line where they are few and plain."""
    plain = [
        entry.model_copy(update={"path": relative_path(entry.path, beside)}) for entry in entries
    ]
    if len(plain) <= 4 and all(isinstance(e.model_dump(mode="json"), str) for e in plain):
        return f" [{', '.join(_quoted(e.path) for e in plain)}]"
    return "".join(f"\n    - {_written(entry)}" for entry in plain)


def _written(entry: SourceEntry) -> str:
    dumped = entry.model_dump(mode="json")
    if isinstance(dumped, str):
        return _quoted(dumped)
    parts = []
    for key, value in dumped.items():
        shown = f"{{host: {_json(value['host'])}}}" if isinstance(value, dict) else _json(value)
        parts.append(f"{key}: {shown}")
    return "{" + ", ".join(parts) + "}"


def _texts(keys: RowKeys) -> str:
    listed = ", ".join(map(_quoted, keys.text))
    return listed if len(keys.text) == 1 else f"[{listed}]"


def _domain_key(keys: RowKeys) -> str:
    if keys.host:
        return f"{{host: {_quoted(keys.domain)}}}"
    return "auto" if keys.domain == "auto" else _quoted(keys.domain)


def relative_path(path: str, folder: Path) -> str:
    if "://" in path:
        return path
    try:
        return Path(path).relative_to(folder.absolute()).as_posix()
    except ValueError:
        return path


def _json(value: object) -> str:
    plain = json.dumps(value, ensure_ascii=False)
    return plain if plain.isprintable() else json.dumps(value)


def _unused(seen: DataLook) -> list[str]:
    """Files that are named and cannot be used, each as the rest of a line."""
    return [
        f"{one_line(Path(p.path).name)}: {one_line(p.problem)}; {one_line(p.fix)}\n"
        for p in seen.problems
    ]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=not text.isprintable())


def count_text(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.1f}M"
    return f"{number / 1e3:.0f}k"
