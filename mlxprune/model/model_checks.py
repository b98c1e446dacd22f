"""Model checks: what of a model or tokenizer would fail late, or give wrong figures in silence,
found from its files before any work."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from mlxprune.data.hub import fetch_from_hub, is_local
from mlxprune.errors import ConfigError, DataError, MlxpruneError, one_line
from mlxprune.files import read_json
from mlxprune.model.architecture import (
    build_model,
    longest_context,
    read_model_config,
    text_config,
)
from mlxprune.records import Json
from mlxprune.tokenization.tokenizer import TOKENIZER_PATTERNS, Tokenizer, load_tokenizer

INDEX_FILE = "model.safetensors.index.json"
HEADER_LIMIT = 100 << 20  # bytes of a safetensors header that are believed
USUAL_CONTEXT = 512  # of a model that states none
LONGEST_CONTEXT = 2048  # unless more is asked for
EMBEDDINGS = (
    "embed_tokens.weight", "wte.weight", "embed_in.weight", "tok_embeddings.weight",
    "word_embeddings.weight", "backbone.embeddings.weight", "embedding.weight",
)  # fmt: skip
POSITIONS = ("wpe.weight", "embed_positions.weight", "position_embeddings.weight")
OFFSETS = {"opt": 2}  # rows of the table of positions before the first one
# In scripts that few tokenizers cut alike: one without bytes and without an unknown token has none.
PROBE = "\u4e2d\u6587 \u0e44\u0e17\u0e22 \u0627\u0644 \U0001f600"


@dataclass(frozen=True)
class ModelFacts:
    """What the files of a model say. ``rows`` of its embedding and learned ``positions``, None
    where it has no such table or the weights are not here; ``stated`` the context that its
    configuration names."""

    folder: Path
    config: Json
    rows: int | None
    positions: int | None
    stated: int | None


@dataclass
class CheckedModel:
    """A model that will do, and what a user should know of it."""

    facts: ModelFacts
    tokenizer: Tokenizer | None = None
    warnings: list[str] = field(default_factory=list)


def check_scoring_model(folder: Path, context: int, what: str) -> CheckedModel:
    """A model of Hugging Face layout that is to score windows of ``context`` tokens with its own
    tokenizer. Raises DataError and ConfigError with what is wrong with it."""
    facts = model_facts(folder)
    warnings = refuse_long_context(facts, context, what)
    tokenizer = load_tokenizer(folder)
    refuse_ids_without_row(tokenizer, facts)
    warnings += tokenizer_warnings(tokenizer)
    return CheckedModel(facts, tokenizer, warnings)


def fetch_for_checks(name: str) -> Path:
    """A local folder, or of a hub id what is small: configuration and tokenizer."""
    if is_local(name):
        return fetch_from_hub(name, [])
    return fetch_from_hub(name, ["*.json", *TOKENIZER_PATTERNS])


def model_facts(folder: Path) -> ModelFacts:
    """Read from config.json and the headers of the weights. Raises DataError: no model, a shard
    that is named and not there, a broken header."""
    config = read_model_config(folder)
    shapes = weight_shapes(folder)
    return ModelFacts(
        folder,
        config,
        _rows(shapes, EMBEDDINGS) or _rows_stated(config),
        _positions(shapes, config),
        longest_context(config),
    )


def usual_context(folder: Path) -> int:
    """The window in tokens that a model scores under where nobody says: what it states, up to
    2,048. Raises what ``model_facts`` raises."""
    facts = model_facts(folder)
    return min(facts.positions or facts.stated or USUAL_CONTEXT, LONGEST_CONTEXT)


def _rows_stated(config: Json) -> int | None:
    size = text_config(config).get("vocab_size")
    return size if isinstance(size, int) and size > 0 else None


def _rows(shapes: dict[str, list[int]], ends: tuple[str, ...]) -> int | None:
    for name, shape in shapes.items():
        if name.endswith(ends) and len(shape) == 2:
            return int(shape[0])
    return None


def _positions(shapes: dict[str, list[int]], config: Json) -> int | None:
    rows = _rows(shapes, POSITIONS)
    return None if rows is None else rows - OFFSETS.get(str(config.get("model_type")), 0)


def weight_shapes(folder: Path) -> dict[str, list[int]]:
    """The shapes of all weights by name; empty where the weights are not here."""
    files = sorted(folder.glob("model*.safetensors"))
    index = folder / INDEX_FILE
    if index.exists():
        try:
            named = sorted(set(read_json(index)["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            fix = "fetch the model again"
            raise DataError("the list of its shards is broken", str(index), fix) from None
        missing = [name for name in named if not (folder / str(name)).exists()]
        if missing and files:
            some = ", ".join(map(one_line, missing[:3])) + (", ..." if len(missing) > 3 else "")
            problem = f"{len(missing)} of {len(named)} shards of the model are missing: {some}"
            raise DataError(problem, str(folder), "fetch the model again")
    shapes: dict[str, list[int]] = {}
    for path in files:
        shapes |= _header(path)
    return shapes


def _header(path: Path) -> dict[str, list[int]]:
    """Of a safetensors file: 8 bytes of length, then JSON. Nothing else of it is read."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(HEADER_LIMIT, path.stat().st_size):
                raise ValueError("its header is longer than the file")
            header = orjson.loads(file.read(length))
            spans = sorted(h["data_offsets"] for n, h in header.items() if n != "__metadata__")
            if path.stat().st_size < 8 + length + max((end for _, end in spans), default=0):
                raise ValueError("the file ends early")
            before = 0
            for first, end in spans:
                if not before <= first <= end:
                    raise ValueError("two tensors lie on the same bytes")
                before = end
            return {n: [*h["shape"]] for n, h in header.items() if n != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        fix = "fetch the model again"
        raise DataError(f"its weights cannot be read: {one_line(error)}", str(path), fix) from None


def refuse_long_context(facts: ModelFacts, context: int, what: str) -> list[str]:
    """Raises ConfigError where windows are longer than a learned table of positions: what lies past
    its end is not a number. Longer than what a model of rotary positions was trained for is a
    warning, which is returned."""
    if facts.positions is not None and context > facts.positions:
        problem = f"the model has learned {facts.positions} positions, and windows have {context}"
        raise ConfigError(problem, f"{what}, {facts.folder}", f"set {what} to {facts.positions}")
    if facts.stated is not None and context > facts.stated:
        return [f"the model states a context of {facts.stated}, and windows have {context}"]
    return []


def refuse_ids_without_row(tokenizer: Tokenizer, facts: ModelFacts) -> None:
    """Raises DataError where the tokenizer has ids for which the model has no embedding."""
    if facts.rows is not None and tokenizer.vocab_size > facts.rows:
        problem = (
            f"the tokenizer has ids up to {tokenizer.vocab_size - 1}, and the embedding of the "
            f"model {facts.rows} rows"
        )
        fix = "take the tokenizer that the model was trained with"
        raise DataError(problem, str(facts.folder), fix)


def tokenizer_warnings(tokenizer: Tokenizer) -> list[str]:
    """What a user should know of a tokenizer that will do."""
    if all(tokenizer.encode([word])[0] for word in PROBE.split()):
        return []
    return [
        "the tokenizer has neither bytes nor an unknown token: characters that it does not know "
        "give no token, and documents of them alone are left out (they are counted)"
    ]


def learned_positions(config: Json) -> int | None:
    """Rows of the table of positions that a model built from a configuration learns; None where
    its positions are computed."""
    if config.get("model_type") in ("llama", "mistral", "qwen2", "qwen3"):
        return None
    from mlx.utils import tree_flatten

    shapes = {
        name: [*array.shape] for name, array in tree_flatten(build_model(config).parameters())
    }
    return _positions(shapes, config)


def refuse_untrainable(config: Json, context: int, where: str) -> None:
    """Raises ConfigError where a model cannot be trained on sequences of ``context`` tokens."""
    rows = learned_positions(config)
    if rows is not None and context > rows:
        problem = f"the model has {rows} positions, and sequences have {context} tokens"
        raise ConfigError(problem, where, f"set {where}.context to {rows}, or n_positions higher")


def worse_than_uniform(mean_nll: float | None, vocab_size: int) -> str | None:
    """A warning about a model whose mean loss in nats a token is no better than guessing."""
    uniform = math.log(max(vocab_size, 1))
    if mean_nll is None or not mean_nll >= uniform:
        return None
    return (
        f"mean loss {mean_nll:.2f} nats a token, and guessing evenly gives {uniform:.2f}: "
        "the model is worse than uniform, so its ranks mean nothing"
    )


def checked(name: str, context: int, what: str) -> CheckedModel:
    """``check_scoring_model`` of a folder or a hub id, with the name in what it raises."""
    try:
        return check_scoring_model(fetch_for_checks(name), context, what)
    except MlxpruneError as error:
        where = error.where if name in error.where else f"{name}: {error.where}"
        raise type(error)(error.problem, where, error.fix) from None
