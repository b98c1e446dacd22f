"""The configuration: every key, its default and its meaning, in one place.

YAML 1.2 is read into frozen, strict models. A key that changes results enters the fingerprints of
the stages that read it; a key marked ``speed()`` changes only how fast the same result comes.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from mlxprune.config.data import Data
from mlxprune.config.field_types import Bytes, Count, Length, Real, Section, Share, speed
from mlxprune.config.slices import FREE_SCORES, NAME, Difference, Selection, Slice, refuse_twice

EARLY = 0.25  # of the training: where metric progress compares from, unless a snapshot is named


class Split(Section):
    reference: Share = Field("auto", description="share of the corpus that trains the reference")
    validation: Share = Field("auto", description="share for curves during training")
    test: Share = Field("auto", description="share that only the verdict reads")
    pool: Literal["auto", "all"] = Field(
        "auto", description="auto: no more documents to score than the budgets need; all: the rest"
    )
    seed: list[Annotated[int, Field(ge=0, le=2**63 - 1)]] = Field(
        [], description="repeat the study with each of these as its seed: split, reference, arms"
    )
    cross: Annotated[int, Field(ge=2, le=20)] | None = Field(
        None, description="k references, each scores the k-th part that it has not seen"
    )

    def results(self) -> dict[str, Any]:
        """Each study of a repeated one is told by its own seed."""
        return {k: v for k, v in super().results().items() if k != "seed"}

    @model_validator(mode="after")
    def _seeds_once(self) -> Split:
        if len(set(self.seed)) != len(self.seed):
            raise ValueError("every seed of a repeated study is named once")
        return self

    @model_validator(mode="after")
    def _no_reference_part(self) -> Split:
        if self.cross and self.reference != "auto":
            raise ValueError(
                "with cross no document is set apart for the reference: drop reference"
            )
        shares = [s for s in (self.reference, self.validation, self.test) if isinstance(s, float)]
        if sum(shares) >= 1:
            raise ValueError(f"the parts take {sum(shares):g} of the corpus: none is left to score")
        return self


class TrainTokenizer(Section):
    kind: Literal["sentencepiece-bpe"] = "sentencepiece-bpe"
    vocab_size: Annotated[Count, Field(ge=2, le=1 << 24)] = Field(
        8192, description="pieces, bytes and the two control tokens included"
    )
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
    context: Length | None = Field(None, description="context length in tokens")
    optimizer: Literal["adamw", "lion"] | None = None
    learning_rate: Annotated[Real, Field(gt=0)] | None = None
    weight_decay: Annotated[Real, Field(ge=0)] | None = Field(
        None, description="a step takes off this share times the learning rate of the step"
    )
    decoupled_weight_decay: bool = Field(
        False,
        description="llm-foundry's: times the learning rate over the largest; its 2e-4 is 1.0 here",
    )
    batch_size: Length | None = Field(None, description="sequences an optimizer step")
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
    name: str = Field("main", description="what its scores are called")
    seed: int | None = Field(None, ge=0, le=2**63 - 1, description="the study's by default")
    tokens: Count = Field(20_000_000, description="targets to train on")
    context: Length | None = 512
    pretrained: str | None = Field(
        None, description="score with this model instead: path or hub id"
    )
    snapshots: list[Annotated[Real, Field(gt=0, lt=1)]] = Field(
        [], description="shares of the training after which a copy is kept and scores, too"
    )

    @model_validator(mode="after")
    def _sound(self) -> Reference:
        if not re.fullmatch(NAME, self.name) or self.name in FREE_SCORES or "@" in self.name:
            raise ValueError("a name is letters, digits, dots, dashes, and not zlib or unigram")
        if self.pretrained and self.snapshots:
            raise ValueError("a pretrained reference has no snapshots")
        if len(set(self.snapshots)) != len(self.snapshots):
            raise ValueError("snapshots are each named once")
        return self


class Score(Section):
    context: Length | None = Field(None, description="window length; the reference's by default")
    long_documents: Literal["windows", "truncate"] = "windows"
    overlap: int = Field(0, ge=0, description="unscored tokens that lead later windows")
    later_windows: Literal["auto", "last", "prefix"] = Field(
        "auto",
        description="what their first input is: the last token before them, or the prefix; auto: "
        "the prefix where the model's tokenizer puts one before every text",
    )
    max_tokens_per_document: Count | None = Field(None, description="score evenly spaced windows")
    batch_tokens: Count | None = Field(None, description="input positions a batch; by device")
    max_unscored: Annotated[Real, Field(ge=0, le=1)] = speed(
        0.05, "share of documents without a finite score above which to stop"
    )
    workers: Count | None = speed(None, "processes that score; by device")

    def results(self) -> dict[str, Any]:
        """``later_windows`` is told by what it comes to, where it changes anything."""
        return {k: v for k, v in super().results().items() if k != "later_windows"}


class Final(Training):
    model: str = "micro"
    context: Length | None = 512
    tokens: Count | None = Field(None, description="targets an arm trains on (50M by default)")
    passes: Annotated[Real, Field(gt=0)] | None = Field(None, description="instead: passes")
    per_parameter: Annotated[Real, Field(gt=0)] | None = Field(
        None, description="instead: targets a parameter (20 = Chinchilla)"
    )
    arms: list[
        Literal[
            "pruned", "random", "matched", "by-domain", "zlib", "unigram", "shuffled", "none", "all"
        ]
    ] = Field(["pruned", "random", "matched"], min_length=1, description="docs/method.md, Arms")
    seeds: list[Annotated[int, Field(ge=0, le=2**63 - 1)]] = Field(
        [0, 1, 2], min_length=1, max_length=1000
    )
    confirm: Count | None = Field(
        None,
        description="train all slices with one seed, `screen_seed`, and only so many of them, the "
        "best on the validation part, with `seeds`; the test part is read for these alone",
    )
    screen_seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = Field(
        1000, description="with confirm: the seed that slices are screened with, none of `seeds`"
    )
    branches: list[Annotated[Real, Field(gt=0, lt=1)]] = Field(
        [], description="shares of T, as in [0.5, 0.65, 0.8]: every arm also ends there, decayed"
    )
    ladder: list[Annotated[Real, Field(gt=0)]] = Field(
        [], description="passes over an unpruned base, as in [0.5, 1, 2, 4, 8]: repeats the study"
    )

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
        if self.confirm and self.screen_seed in self.seeds:
            raise ValueError("what is screened is confirmed with other seeds than screen_seed")
        if self.confirm and not {"pruned", "random"} <= {*self.arms}:
            raise ValueError("confirm needs the arms pruned and random")
        if self.confirm and self.ladder:
            raise ValueError("confirm and ladder do not go together: give the ladder one slice")
        if len(set(self.ladder)) != len(self.ladder):
            raise ValueError("every rung of the ladder is named once")
        if len(set(self.branches)) != len(self.branches):
            raise ValueError("every branch is named once")
        if self.branches and self.schedule != "wsd":
            raise ValueError("branches need the schedule wsd: cosine decays all the way")
        return self


class Evaluation(Section):
    primary: Literal["macro", "target", "tasks"] = Field(
        "macro", description="the figure that the verdict rests on; docs/method.md, Verdict"
    )
    tasks: list[str] = Field(
        [], description="gauntlet, its categories and tasks, and files or folders of your own"
    )
    gauntlet: str | None = Field(None, description="a clone of llm-foundry: the gauntlet's files")
    limit: Count | None = Field(None, description="items a task, drawn by the seed; all by default")
    target: list[str] = Field([], description="files of text that the final model is meant for")
    contamination: Literal["report", "remove", "off"] = Field(
        "report", description="of tasks in training documents; remove: leave those documents out"
    )

    @model_validator(mode="after")
    def _primary_is_there(self) -> Evaluation:
        if self.primary != "macro" and not getattr(self, self.primary):
            raise ValueError(f"primary: {self.primary} needs evaluation.{self.primary}")
        return self


class Report(Section):
    samples: int = speed(3, "documents shown at each percentile and cut")


class Config(Section):
    version: Literal[1] = 1
    name: str = Field("run", description="the run folder is runs/<name> unless --dir")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="of the split, the reference and ties")
    hours: Annotated[Real, Field(gt=0, le=10_000)] | None = speed(
        None, "the time that you have: what `plan` holds the study against; 8 by default"
    )
    memory: Bytes | None = speed(
        None, "what batches may fill, as in 8G; half of the device's working set by default"
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="what a GPU computes in; float16 is for scoring, and trains in float32"
    )
    data: Data
    split: Split = Split()
    tokenizer: Tokenizer = Tokenizer(train=TrainTokenizer())
    reference: Reference = Field(Reference(), description="the model whose perplexity ranks")
    references: list[Reference] = Field(
        [], description="instead of `reference`: a list of such tables, each with a `name`"
    )
    score: Score = Score()
    selection: Selection = Selection()
    final: Final = Final(tokens=50_000_000)
    evaluation: Evaluation = Evaluation()
    report: Report = Report()

    @model_validator(mode="before")
    @classmethod
    def _tokenizer_of_reference(cls, value: Any) -> Any:
        """A pretrained reference brings its tokenizer, where none is asked for and none can be
        trained: no reference part is set apart then."""
        if not isinstance(value, dict) or value.get("tokenizer") is not None:
            return value
        listed = value.get("references") or [value.get("reference")]
        if not isinstance(listed, list):
            return value
        names = [r.get("pretrained") if isinstance(r, dict) else None for r in listed]
        if all(names):
            return {**value, "tokenizer": {"pretrained": names[0]}}
        return value

    @property
    def dtype_identity(self) -> dict[str, str]:
        """What of the dtype a result rests on: the one that was asked for."""
        return {} if self.dtype == "auto" else {"dtype": self.dtype}

    @field_validator("name", mode="before")
    @classmethod
    def _name(cls, value: object) -> object:
        text = str(value) if isinstance(value, str | int | float) else ""
        if not re.fullmatch(NAME, text):
            raise ValueError("a name is letters, digits, dots, dashes: it becomes a folder")
        return text

    @model_serializer(mode="wrap")
    def _written(self, usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the one reference that nobody asked for, where several are named."""
        found: dict[str, Any] = usual(self)
        if self.references:
            del found["reference"]
        return found

    @model_validator(mode="after")
    def _references_are_there(self) -> Config:
        names = [r.name for r in self.scorers]
        if self.references and self.reference != Reference():
            raise ValueError("give `reference` or `references`, not both")
        if len({name.casefold() for name in names}) != len(names):  # as a Mac's disk sees them
            raise ValueError("every reference has a name of its own: references: [{name: ...}]")
        if self.split.cross and (len(names) > 1 or self.scorers[0].pretrained):
            raise ValueError("split.cross goes with one reference that is trained here")
        for choice in self.slices:
            wanted = [choice.reference] if choice.reference else []
            if isinstance(choice.metric, Difference):
                wanted += choice.metric.difference
            for name in wanted:
                if name not in names and name not in FREE_SCORES:
                    known = ", ".join([*names, *FREE_SCORES])
                    raise ValueError(f"slice {choice.label}: no reference {name!r}; known: {known}")
            progress = choice.metric == "progress"  # it needs an early copy
            scorer = next(
                (r for r in self.scorers if r.name == (choice.reference or names[0])), None
            )
            if progress and (scorer is None or scorer.pretrained or self.split.cross):
                raise ValueError("metric progress needs one reference that is trained here")
        labels = [choice.label for choice in self.slices]
        rungs = [f"{label}-x{rung:g}" for label in labels for rung in self.final.ladder]
        refuse_twice([*labels, *rungs], "arms")
        return self

    @property
    def slices(self) -> list[Slice]:
        return self.selection.slices

    @property
    def primary_reference(self) -> Reference:
        """That of slices which name none."""
        return self.scorers[0]

    @property
    def scorers(self) -> list[Reference]:
        """The references by name, the one that slices rank by first; with what metric progress
        needs among their snapshots."""
        found = self.references or [self.reference]
        early = {
            choice.reference or found[0].name
            for choice in self.slices
            if choice.metric == "progress"
        }
        return [
            r.model_copy(update={"snapshots": [EARLY]})
            if r.name in early and not r.snapshots and not r.pretrained
            else r
            for r in found
        ]
