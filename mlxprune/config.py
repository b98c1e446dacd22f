"""The configuration: every key, its default and its meaning, in one place.

YAML 1.2 is read into frozen, strict models. A key that changes results enters the fingerprints of
the stages that read it; a key marked ``speed()`` changes only how fast the same result comes.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from glob import escape, has_magic, iglob
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)

from mlxprune.errors import ConfigError, closest, one_line
from mlxprune.yamlfile import parse_value, read_yaml

COUNT_SUFFIXES = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}


def parse_count(value: object) -> object:
    """``26B`` -> 26_000_000_000. Suffixes count in thousands; anything else is left to pydantic."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([kKmMbBtT]?)\s*", value)
        if not found:
            raise ValueError(f"{one_line(value)!r} is not a count such as 512, 512k, 20M or 26B")
        number, suffix = found.groups()
        scaled = Decimal(number.replace("_", "")) * COUNT_SUFFIXES.get(suffix.lower(), 1)
        if scaled != int(scaled):
            raise ValueError(f"{one_line(value)!r} is not a whole number")
        return int(scaled)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def parse_decimal(value: object) -> object:
    """0.1 in a file means one tenth exactly, not the nearest binary fraction."""
    if isinstance(value, bool) or value is None:
        raise ValueError("not a number")
    try:
        result = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{one_line(value)!r} is not a number") from None
    if not result.is_finite():
        raise ValueError(f"{one_line(value)!r} is not a finite number")
    return result


Count = Annotated[int, BeforeValidator(parse_count), Field(gt=0)]
Exact = Annotated[
    Decimal,
    BeforeValidator(parse_decimal),
    PlainSerializer(lambda d: int(d) if d == int(d) else float(d), when_used="always"),
]
Real = Annotated[
    float,
    BeforeValidator(lambda v: float(v) if type(v) is int else v),
    Field(allow_inf_nan=False),
]


def parse_share(value: object) -> object:
    """``auto``, a fraction below 1, or a token budget such as 2M."""
    if value == "auto":
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*0?\.[0-9]+\s*", value):
        return float(value)
    if isinstance(value, float) and 0 < value < 1:
        return value
    return parse_count(value)


Share = Annotated[
    Literal["auto"] | Annotated[float, Field(gt=0, lt=1)] | Annotated[int, Field(gt=0)],
    BeforeValidator(parse_share),
]


def speed(default: Any, description: str) -> Any:
    """A field that changes only speed or memory, never a result."""
    return Field(default, description=description, json_schema_extra={"speed": True})


def parse_bytes(value: object) -> object:
    """``8G`` -> 8 * 2^30. Suffixes k, M, G, T count in 1024s; B after them is allowed."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)i?b?\s*", value.lower())
        if not found:
            raise ValueError(f"{one_line(value)!r} is not a size such as 512M or 8G")
        return int(Decimal(found[1]) * 1024 ** " kmgt".index(found[2] or " "))
    return value


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=64 << 20)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    def results(self) -> dict[str, Any]:
        """The keys that change results, as plain values: what a fingerprint hashes."""
        plain = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and extra.get("speed"):
                del plain[name]
        return plain


class Data(Section):
    paths: list[str] = Field(min_length=1, description="files, folders, globs, hf://datasets/...")
    text_key: str = Field("text", description="where the text is; dotted keys reach into objects")
    id_key: str = Field("id", description="where the id is; made from the text where missing")
    domain_key: str = Field("auto", description="a key, path:N, file, or auto")
    group_key: str | None = Field(None, description="documents of equal value share a split side")
    limit: str | None = Field(None, description="about so many tokens (200M), or `5000 docs`")
    max_bad: Real = Field(0.01, ge=0, le=1, description="share of bad rows above which to stop")
    duplicates: Literal["keep", "drop"] = Field("keep", description="what to do with equal texts")

    @field_validator("domain_key")
    @classmethod
    def _level(cls, value: str) -> str:
        if value.startswith("path:") and not re.fullmatch(r"path:[1-9][0-9]?", value):
            raise ValueError("path:N counts folder levels from 1, as in path:2")
        return value

    @field_validator("limit", mode="before")
    @classmethod
    def _limit(cls, value: object) -> object:
        if value is None:
            return None
        text = str(value)
        number = parse_count(text.removesuffix("docs").strip())
        if not isinstance(number, int) or number <= 0:
            raise ValueError("a limit is a positive count of tokens, or of documents with `docs`")
        return text

    def limit_documents(self) -> int | None:
        found = (self.limit or "").removesuffix("docs").strip()
        return int(str(parse_count(found))) if self._in_docs() else None

    def limit_tokens(self) -> int | None:
        return None if self.limit is None or self._in_docs() else int(str(parse_count(self.limit)))

    def _in_docs(self) -> bool:
        return self.limit is not None and self.limit.endswith("docs")


class Split(Section):
    reference: Share = Field("auto", description="share of the corpus that trains the reference")
    validation: Share = Field("auto", description="share for curves during training")
    test: Share = Field("auto", description="share that only the verdict reads")


class TrainTokenizer(Section):
    kind: Literal["sentencepiece-bpe"] = "sentencepiece-bpe"
    vocab_size: Count = Field(8192, description="pieces, bytes and the two control tokens included")
    max_bytes: Count = Field(64_000_000, description="text of the reference part that is read")


class Tokenizer(Section):
    train: TrainTokenizer | None = Field(None, description="train one on the reference part")
    pretrained: str | None = Field(None, description="a folder or a hub id")

    @model_validator(mode="before")
    @classmethod
    def _default_is_train(cls, value: Any) -> Any:
        if isinstance(value, dict) and not value.get("pretrained") and not value.get("train"):
            return {**value, "train": {}}
        return value

    @model_validator(mode="after")
    def _one(self) -> Tokenizer:
        if self.train and self.pretrained:
            raise ValueError("give `train` or `pretrained`, not both")
        return self


class Training(Section):
    """What the reference and the final models share. ``null``: as the model preset says."""

    model: str = Field("nano", description="a preset, or a folder or config.json of Hugging Face")
    context: Count | None = Field(None, description="context length in tokens")
    optimizer: Literal["adamw", "lion"] | None = None
    learning_rate: Annotated[Real, Field(gt=0)] | None = None
    weight_decay: Annotated[Real, Field(ge=0)] | None = None
    batch_size: Count | None = Field(None, description="sequences an optimizer step")
    warmup: Real = Field(0.05, ge=0, lt=1, description="share of the steps spent warming up")
    decay: Real = Field(0.15, ge=0, le=1, description="share of the steps in wsd's decay")
    schedule: Literal["wsd", "cosine"] = "wsd"
    clip: Real = Field(1.0, gt=0, description="largest global gradient norm")
    accumulate: Count | None = speed(None, "micro-batches an optimizer step; by memory")
    checkpoint_every: Count | None = speed(None, "targets between checkpoints")
    validate_every: Count | None = Field(None, description="targets between validations")
    gradient_checkpointing: bool = speed(
        False, "recompute activations on a GPU: less memory, slower"
    )


class Reference(Training):
    tokens: Count = Field(20_000_000, description="targets to train on")
    context: Count | None = 512
    pretrained: str | None = Field(
        None, description="score with this model instead: path or hub id"
    )


class Score(Section):
    context: Count | None = Field(None, description="window length; the reference's by default")
    long_documents: Literal["windows", "truncate"] = "windows"
    overlap: int = Field(0, ge=0, description="unscored tokens that lead later windows")
    max_tokens_per_document: Count | None = Field(None, description="score evenly spaced windows")
    batch_tokens: Count | None = Field(None, description="input positions a batch; by device")
    workers: Count | None = speed(None, "processes that score; by device")


class Slice(Section):
    """One way to choose documents by score."""

    criterion: Literal["low", "medium", "high", "band"] = "high"
    rate: Exact | None = Field(Decimal("0.5"), description="share of the pool to keep")
    band: tuple[Exact, Exact] | None = Field(None, description="[a, b] for criterion band")
    unit: Literal["documents", "tokens"] = "tokens"
    by: Literal["corpus"] = "corpus"
    metric: Literal["perplexity", "bpb"] = "perplexity"
    rule: Literal["exact", "paper"] = Field("exact", description="paper: its strict ECDF test")

    @model_validator(mode="before")
    @classmethod
    def _band_implies_criterion(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("band") is not None:
            value = dict(value)
            value.setdefault("criterion", "band")
            value["rate"] = None
            if isinstance(value["band"], list):
                value["band"] = tuple(value["band"])
        return value

    @model_validator(mode="after")
    def _possible(self) -> Slice:
        if (self.criterion == "band") != (self.band is not None):
            raise ValueError("criterion band and `band: [a, b]` belong together")
        if self.band is None and self.rate is None:
            raise ValueError("give a rate")
        if self.band is not None and not 0 <= self.band[0] < self.band[1] <= 1:
            raise ValueError(f"band {list(map(str, self.band))} is not 0 <= a < b <= 1")
        if self.rate is not None and not 0 < self.rate <= 1:
            raise ValueError(f"rate {self.rate} is not above 0 and at most 1")
        if self.rule == "paper" and self.unit != "documents":
            raise ValueError("rule paper counts documents: set unit to documents")
        return self

    def name(self) -> str:
        """What the slice is: high-50, medium-12.5, band-20-60."""
        shares = self.band if self.band is not None else (self.rate or Decimal(0),)
        percents = [format((100 * share).normalize(), "f") for share in shares]
        return "-".join([self.criterion, *percents, *(["paper"] if self.rule == "paper" else [])])


class Final(Training):
    model: str = "micro"
    context: Count | None = 512
    tokens: Count | None = Field(None, description="targets an arm trains on (50M by default)")
    passes: Annotated[Real, Field(gt=0)] | None = Field(None, description="instead: passes")
    per_parameter: Annotated[Real, Field(gt=0)] | None = Field(
        None, description="instead: targets a parameter (20 = Chinchilla)"
    )
    arms: list[Literal["pruned", "random"]] = Field(["pruned", "random"], min_length=1)
    seeds: list[Annotated[int, Field(ge=0, le=2**63 - 1)]] = Field([0, 1, 2], min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _one_budget(cls, value: Any) -> Any:
        if isinstance(value, dict):
            given = [k for k in ("tokens", "passes", "per_parameter") if value.get(k) is not None]
            if len(given) > 1:
                raise ValueError(f"give one budget, not {' and '.join(given)}")
            if not given:
                return {**value, "tokens": 50_000_000}
        return value

    @model_validator(mode="after")
    def _no_repeats(self) -> Final:
        if len(set(self.seeds)) != len(self.seeds) or len(set(self.arms)) != len(self.arms):
            raise ValueError("arms and seeds are each named once")
        return self


class Evaluation(Section):
    primary: Literal["macro"] = Field("macro", description="the figure that the verdict rests on")


class Report(Section):
    samples: int = speed(3, "documents shown at each percentile and cut")


class Config(Section):
    version: Literal[1] = 1
    name: str = Field("run", description="the run folder is runs/<name> unless --dir")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="of the split, the reference and ties")
    memory: Bytes | None = speed(
        None, "what batches may fill, as in 8G; half of the device's working set by default"
    )
    data: Data
    split: Split = Split()
    tokenizer: Tokenizer = Tokenizer(train=TrainTokenizer())
    reference: Reference = Reference()
    score: Score = Score()
    selection: Slice = Slice()
    final: Final = Final(tokens=50_000_000)
    evaluation: Evaluation = Evaluation()
    report: Report = Report()

    @field_validator("name", mode="before")
    @classmethod
    def _name(cls, value: object) -> object:
        text = str(value)
        if value is None or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
            raise ValueError("a name is letters, digits, dots, dashes: it becomes a folder")
        return text


def load(path: Path, overrides: list[str] | None = None) -> Config:
    """Read, override, validate. ``overrides`` are ``a.b=value`` with YAML values.

    ``data.paths`` come back absolute: relative ones are looked up beside the file, then here.
    """
    tree = read_yaml(path)
    for override in overrides or []:
        _set(tree, override)
    config = validate(tree, str(path))
    resolved = [resolve_path(entry, path.parent) for entry in config.data.paths]
    return config.model_copy(update={"data": config.data.model_copy(update={"paths": resolved})})


def validate(tree: dict[str, Any], where: str) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise _as_config_error(error, where) from None


def resolve_path(entry: str, beside: Path) -> str:
    if "://" in entry or Path(entry).is_absolute():
        return entry
    expanded = Path(entry).expanduser()
    for folder in (beside.absolute(), Path.cwd()):
        if (folder / expanded).exists():
            return str(folder / expanded)
        if has_magic(entry):
            pattern = str(Path(escape(str(folder))) / expanded)
            if next(iglob(pattern, recursive=True), None) is not None:  # noqa: PTH207
                return pattern
    return str(beside.absolute() / expanded)


def _set(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"{override!r} is not key=value", "--set", "write --set selection.rate=0.25"
        )
    *parents, last = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{parent!r} is not a table of keys", f"--set {override}", "check it")
        tree = child
    alternatives = {
        "final": ("tokens", "passes", "per_parameter"),
        "tokenizer": ("train", "pretrained"),
        "selection": ("rate", "band"),
    }
    for group in alternatives.get(parents[-1], ()) if parents else ():
        if last in alternatives[parents[-1]] and group != last:
            tree.pop(group, None)  # the override replaces the alternative that the file chose
    if parents == ["selection"] and last == "criterion" and value != "band":
        tree.pop("band", None)
    if parents == ["selection"] and last == "band":
        tree.pop("criterion", None)
    tree[last] = parse_value(value)


def _as_config_error(error: ValidationError, where: str) -> ConfigError:
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"] if not _is_union_tag(part)]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        known = _fields_at(path[:-1])
        return ConfigError(f"unknown key {key!r}", where, closest(path[-1], known))
    if first["type"] == "missing":
        return ConfigError(f"missing key {key!r}", where, f"add {key}: to the file")
    message = first["msg"].removeprefix("Value error, ")
    return ConfigError(f"{key or 'configuration'}: {one_line(message)}", where, _describe(path))


def _is_union_tag(part: str | int) -> bool:
    return (isinstance(part, str) and not re.fullmatch(r"[a-z_0-9]+", part)) or part in (
        "float",
        "int",
    )


def _fields_at(path: list[str]) -> list[str]:
    section = _section_at(path)
    return list(section.model_fields) if section else []


def _section_at(path: list[str]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = Config
    for part in path:
        field = current.model_fields.get(part) if current else None
        if field is None:
            return None
        options = getattr(field.annotation, "__args__", (field.annotation,))
        current = next(
            (o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None
        )
    return current


def _describe(path: list[str]) -> str:
    section = _section_at(path[:-1]) if path else None
    field = section.model_fields.get(path[-1]) if section and path else None
    if field is None:
        return "see docs/config.md"
    about = field.description or "see docs/config.md"
    simple = isinstance(field.default, int | float | str | Decimal)
    shown = f" (default: {field.default})" if simple else ""
    return f"{path[-1]}: {about}{shown}"
