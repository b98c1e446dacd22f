"""The page of formats: every file and every answer of a command, from the records themselves.

The types come from the annotations, the meanings from the comments beside the fields.
"""

from __future__ import annotations

import enum
import inspect
import re
import typing

import msgspec
import pyarrow as pa

from mlxprune.data.index import DOCUMENTS, CorpusSummary, InputFile
from mlxprune.data.split import SplitSummary
from mlxprune.diagnostics.benchmark import MachineFigures
from mlxprune.diagnostics.doctor import MachineFacts
from mlxprune.experiment.document_explanation import RankedDocument, TokenLosses
from mlxprune.experiment.rank_stability import Stability
from mlxprune.experiment.records import (
    ArmEvaluation,
    ContaminationRecord,
    Screening,
    StudyArms,
    TestReads,
)
from mlxprune.experiment.study_result import StudyResult
from mlxprune.experiment.verification import Verified
from mlxprune.exporting.shards import ExportRecord
from mlxprune.filtering.result import FilterResult
from mlxprune.filtering.worker import DECIDED
from mlxprune.model.device_choice import DeviceChoice
from mlxprune.planning.plan import Plan
from mlxprune.run.markers import Marker
from mlxprune.run.state import AssessedFigures, CheckpointFacts, StageState, WarningFacts
from mlxprune.scoring.score_file import score_schema
from mlxprune.selection.manifest import SliceManifest
from mlxprune.selection.selector import KEPT_COLUMNS
from mlxprune.standalone.evaluate import ModelEvaluation
from mlxprune.standalone.score import ScoredData
from mlxprune.standalone.train import TrainedModel
from mlxprune.tokenization.token_file import TokenSummary
from mlxprune.tracking.track import TrackResult
from mlxprune.training.summary import TrainingSummary

# What lies in a run folder, in the order in which it comes to be: (path, record or words).
RUN_FOLDER: list[tuple[str, type | str]] = [
    ("config.yaml", "the configuration with every default filled in; see config.md"),
    ("run.json", "what the folder belongs to for good, and what each stage rested on"),
    ("device.json", DeviceChoice),
    ("events/*.msgpack", "the log; see events.md"),
    ("events/*.msgpack.zst", "its segments that are not written to any more"),
    ("commands/*.json", "commands that wait for the next batch edge"),
    ("lock", "who works on the run: `pid`, `started`, `host`"),
    ("target/", "a corpus and its tokens, as below, of the target text"),
    ("*/stage.json", Marker),
    ("corpus/summary.json", CorpusSummary),
    ("corpus/files.json", InputFile),
    ("corpus/sources.json", "the files that documents are read from, by the code in the index"),
    ("corpus/index.npy", "48 bytes a document, memory-mapped"),
    ("corpus/documents.parquet", "one row a document in canonical order; columns below"),
    ("corpus/bad-rows.jsonl", "what was skipped, and why: one row each"),
    ("split/split.json", SplitSummary),
    ("split/part.npy", "uint8 [documents]: the part of each"),
    ("tokenizer/", "in Hugging Face layout"),
    ("tokens/<tokenizer>/tokens.json", TokenSummary),
    ("tokens/<tokenizer>/tokens.bin", "the ids of all documents, as the dtype in tokens.json"),
    ("tokens/<tokenizer>/offsets.npy", "int64 [documents + 1]: where each begins"),
    ("references/<name>/", "a model in Hugging Face layout"),
    ("references/<name>/training.json", TrainingSummary),
    ("references/<name>/checkpoints/step-<n>/", "weights, optimizer state, and state.json"),
    ("references/<name>/shapes.json", "into how many parts its steps are cut, from which step on"),
    ("references/<name>/rollbacks.json", "where a training went back, if it did"),
    ("references/<name>/towards", "what the work in the folder is for; `.towards` is a copy"),
    ("scores/<name>.parquet", "one row a document of the pool; columns below"),
    (
        "scores/.<name>.parts/",
        "what a damaged scores file is written again from: rows.npy and positions.npy, with"
        " shapes.json; while it is scored, a file a unit",
    ),
    ("scores/<name>.unscored-<hash>.parquet", "documents without a score: key, id, source, row"),
    ("selection/<slice>/manifest.json", SliceManifest),
    ("selection/<slice>/kept.parquet", "the kept documents; columns below"),
    ("selection/<slice>/kept.npy", "bool [pool]"),
    ("selection/<slice>/tokens.npy", "int64 [pool]: tokens of the final model's tokenizer"),
    ("final/arms.json", StudyArms),
    ("final/<arm>-s<seed>/", "a model in Hugging Face layout, with training.json as above"),
    ("arms/<arm>-s<seed>.npy", "uint64: the keys of the documents of an arm"),
    ("eval/<arm>-s<seed>.json", ArmEvaluation),
    ("eval/<arm>-s<seed>.<hash>.npy", "float64 [documents]: the loss of each in nats"),
    ("eval/<arm>-s<seed>.<hash>.target.npy", "the same of the target text"),
    ("eval/<arm>-s<seed>.<hash>.validation.npy", "the same of the validation part"),
    ("eval/<arm>-s<seed>.<hash>.items.parquet", "one row an item of the tasks, with its answers"),
    ("eval/contamination.json", ContaminationRecord),
    ("eval/test-reads.json", TestReads),
    ("final/screening.json", Screening),
    ("report.json", StudyResult),
    ("report.html", "the same for people, in one file"),
]  # fmt: skip
ANSWERS: list[tuple[str, type]] = [
    ("run --json, report --json, demo --json", StudyResult),
    ("plan --json", Plan),
    ("eval --json", ModelEvaluation),
    ("score --json", ScoredData),
    ("train --json", TrainedModel),
    ("verify --json", Verified),
    ("select --json", SliceManifest),
    ("export --json, .export.json of an export", ExportRecord),
    ("filter --json, filter.json of what was filtered", FilterResult),
    ("track --json", TrackResult),
    ("explain --json", RankedDocument),
    ("explain --losses --json", TokenLosses),
    ("stability --json", Stability),
    ("doctor --json", MachineFacts),
    ("bench --json", MachineFigures),
]
WRAPPED = {
    "explain --json": ", one a slice, in `documents` beside the `id` that was asked for; of a"
    " document that is not scored no more than `source`, `row`, `domain`, `kept`, `reason`",
    "export --json, .export.json of an export": "; the command also says `out`",
    "filter --json, filter.json of what was filtered": "; the command also says `out`",
    "select --json": "; of several slices `slices`, these by name",
}


def page() -> str:
    seen: dict[type, None] = {}
    lines = [
        "# Formats", "",
        "Made by `python docs/generate.py` from the records that are read and written; a test",
        "keeps it current. JSON is UTF-8, keys sorted. A reader ignores fields that it does not",
        "know; a field that may be left out is left out where it is null.", "",
        "## The run folder", "", "| path | what |", "|---|---|",
    ]  # fmt: skip
    for path, what in RUN_FOLDER:
        lines.append(f"| `{path}` | {_linked(what, seen) if isinstance(what, type) else what} |")
    lines += ["", "## Tables", ""]
    lines += _columns("corpus/documents.parquet", DOCUMENTS)
    lines += _columns("scores/&lt;name&gt;.parquet", score_schema(with_fold=True))
    lines += [
        "`fold` is there where cross-scoring made the scores. The metadata hold the policy that",
        "documents were scored under (`policy.*`), `metric_version`, `reference`, `tokenizer` and",
        "the mean loss by position (`mean_nll_by_position`).", "",
    ]  # fmt: skip
    kept = [score_schema().field(name) for name in KEPT_COLUMNS]
    lines += _columns(
        "selection/&lt;slice&gt;/kept.parquet", pa.schema([*kept, ("rank", pa.int64())])
    )
    lines += _columns("scores/part-*.parquet of what was filtered", DECIDED)
    lines += ["`figure` is what the slice ranks by.", ""]
    lines += ["## What commands print", "", "| command | what |", "|---|---|"]
    lines += [f"| `{command}` | {_linked(kind, seen)}{WRAPPED.get(command, '')} |"
              for command, kind in ANSWERS]  # fmt: skip
    lines += [
        "| `status --json` | the state of the run without curves, recent events and result: `run`,",
        "`state`, `standing`, `finish_seconds` (`early`, `likely`, `late`), `folder`, `pid`, and",
        f"`stages` of {_linked(StageState, seen)}, `assessed` of {_linked(AssessedFigures, seen)},",
        f"`checkpoint` {_linked(CheckpointFacts, seen)}, `warnings` of",
        f"{_linked(WarningFacts, seen)}, ...;",
        "of a folder of runs `runs`, a list of these |",
    ]  # fmt: skip
    lines[-6:] = [" ".join(lines[-6:])]
    lines += ["| `tail --json` | one event a line; see events.md |", "", "## Records", ""]
    queue = list(seen)
    done: dict[type, list[str]] = {}
    while queue:
        kind = queue.pop()
        if kind not in done:
            before = len(seen)
            done[kind] = _record(kind, seen)
            queue += list(seen)[before:]
    for kind in sorted(done, key=lambda k: k.__name__):
        lines += done[kind]
    return "\n".join(lines)


def _linked(kind: type, seen: dict[type, None]) -> str:
    seen.setdefault(kind)
    return f"[{kind.__name__}](#{kind.__name__.lower()})"


def _columns(title: str, schema: pa.Schema) -> list[str]:
    rows = [f"| `{field.name}` | {_arrow(field.type)} |" for field in schema]
    return [f"### {title}", "", "| column | type |", "|---|---|", *rows, ""]


def _arrow(kind: pa.DataType) -> str:
    return str(kind.value_type) if pa.types.is_dictionary(kind) else str(kind)


def _record(kind: type, seen: dict[type, None]) -> list[str]:
    about = re.sub(r"``", "`", inspect.cleandoc(kind.__doc__ or ""))
    if "(" in about and about.startswith(f"{kind.__name__}("):
        about = ""  # a dataclass without words of its own
    lines = [f"### {kind.__name__}", "", *([about, ""] if about else [])]
    lines += ["| field | type | meaning |", "|---|---|---|"]
    comments = _comments(kind)
    hints = typing.get_type_hints(kind)
    for name, optional in _fields(kind):
        shown = _type(hints[name], seen)
        note = comments.get(name, "")
        left_out = " (may be left out)" if optional else ""
        lines.append(f"| `{name}` | {shown}{left_out} | {note} |")
    return [*lines, ""]


def _fields(kind: type) -> list[tuple[str, bool]]:
    """(name, whether it may be left out), as JSON has them."""
    if issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        sparse = kind.__struct_config__.omit_defaults
        return [(f.name, sparse and not f.required) for f in fields]
    return [(name, True) for name in typing.get_type_hints(kind) if name != "told"]


def _comments(kind: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if one.__module__.startswith("mlxprune"):
            for name, comment in re.findall(
                r"^    (\w+): [^\n#]*?  # ([^\n]+)$", inspect.getsource(one), re.M
            ):
                found[name] = comment
    return found


def _type(hint: object, seen: dict[type, None]) -> str:
    if hint is type(None):
        return "null"
    if isinstance(hint, type) and issubclass(hint, enum.StrEnum):
        return " or ".join(f"`{word.value}`" for word in hint)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _linked(hint, seen)
    if typing.get_origin(hint) in (list, tuple, dict, set):
        parts = [_type(part, seen) for part in typing.get_args(hint) if part is not ...]
        origin = typing.get_origin(hint)
        return f"{{{parts[0]}: {parts[1]}}}" if origin is dict else f"[{', '.join(parts)}]"
    if typing.get_args(hint):
        parts = [
            _type(part, seen) for part in typing.get_args(hint) if part is not msgspec.UnsetType
        ]
        return " or ".join(dict.fromkeys(parts))
    names = {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}
    name = getattr(hint, "__name__", str(hint))
    return {"Any": "anything", "Columns": "list of points", **names}.get(name, name)
