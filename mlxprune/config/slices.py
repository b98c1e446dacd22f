"""Slices: the ways to choose documents by score, and what they are called."""

from __future__ import annotations

import itertools
import re
from decimal import Decimal
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_serializer, model_validator

from mlxprune.config.field_types import Count, Exact, Section

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # what may become a folder
# Names that arms and free scores bear already.
RESERVED = (
    "random", "matched", "by-domain", "zlib", "unigram", "shuffled", "none", "all", "base",
)  # fmt: skip
FREE_SCORES = ("zlib", "unigram")
ABSOLUTE_KEYS = ("tokens", "min", "max")
AMOUNT_KEYS = {"rate", "band", *ABSOLUTE_KEYS}  # the ways to say how much
Shares = Exact | dict[str, Exact] | None


class Difference(Section):
    """Bits per byte under one reference minus those under another: what training learned."""

    difference: tuple[str, str] = Field(description="names of two references")

    @model_validator(mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("difference"), list):
            return {**value, "difference": tuple(value["difference"])}
        return value


class Slice(Section):
    """One way to choose documents by score."""

    _units_differ: bool = PrivateAttr(False)  # from those of another slice of the study
    name: str | None = Field(None, description="what to call it; by default what it is: high-50")
    criterion: Literal["low", "medium", "high", "band", "soft", "range"] = "high"
    rate: Exact | None = Field(Decimal("0.5"), description="share of the pool to keep")
    band: tuple[Exact, Exact] | None = Field(None, description="[a, b] for criterion band")
    tokens: Count | None = Field(None, description="instead of a rate: tokens to keep, as in 20M")
    min: Exact | None = Field(
        None, description="for criterion range: the least perplexity, or bits per byte, to keep"
    )
    max: Exact | None = Field(None, description="for criterion range: the largest to keep")
    centre: Exact | None = Field(None, description="for criterion soft: the likeliest position")
    spread: Exact = Field(
        Decimal("0.2"), description="for criterion soft: standard deviation of the positions"
    )
    unit: Literal["documents", "tokens"] = Field("tokens", description="what the rate counts")
    by: Literal["corpus", "domain"] | tuple[Literal["domain"], Literal["length"]] = Field(
        "corpus", description="rank inside: `corpus`, `domain`, or `[domain, length]` (octaves)"
    )
    metric: Literal["perplexity", "bpb", "adjusted", "progress"] | Difference = Field(
        "perplexity",
        description="`perplexity`, `bpb`, `adjusted`, `progress`, or `{difference: [a, b]}`",
    )
    reference: str | None = Field(
        None, description="whose scores: a reference's name, `zlib` or `unigram`; the first's"
    )
    rule: Literal["exact", "paper"] = Field("exact", description="paper: its strict ECDF test")
    protect: list[str] = Field([], description="domains that are kept whole")
    floor: Shares = Field(
        None, description="least share kept of every domain, or `{domain: share}`"
    )
    cap: Shares = Field(None, description="largest share kept of every domain, or by domain")
    min_tokens: int = Field(1, ge=1, description="shorter documents are neither ranked nor kept")

    @field_validator("name", "reference")
    @classmethod
    def _names(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(NAME, value):
            raise ValueError("a name is letters, digits, dots, dashes: it becomes a folder")
        return value

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, value: str | None) -> str | None:
        lower = (value or "").lower()
        if any(lower == word or lower.startswith((f"{word}-", f"{word}.")) for word in RESERVED):
            raise ValueError(f"{value!r} is what a control arm is called")
        return value

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        value = dict(value)
        amounts = [k for k in ("rate", "band", "tokens") if value.get(k) is not None]
        amounts += (
            ["min or max"]
            if {"min", "max"} & {k for k, v in value.items() if v is not None}
            else []
        )
        if len(amounts) > 1:
            raise ValueError(f"say how much once, not by {' and '.join(amounts)}")
        if value.get("band") is not None:
            value.setdefault("criterion", "band")
            value["rate"] = None
            if isinstance(value["band"], list):
                value["band"] = tuple(value["band"])
        if value.get("min") is not None or value.get("max") is not None:
            value.setdefault("criterion", "range")
            value["rate"] = None
        if value.get("tokens") is not None:
            value["rate"] = None
        if isinstance(value.get("by"), list):
            value["by"] = value["by"][0] if len(value["by"]) == 1 else tuple(value["by"])
        if value.get("by", "corpus") not in ("corpus", "domain", ("domain", "length")):
            raise ValueError("by is corpus, domain, or [domain, length]")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Slice:
        if (self.criterion == "band") != (self.band is not None):
            raise ValueError("criterion band and `band: [a, b]` belong together")
        if (self.criterion == "soft") != (self.centre is not None):
            raise ValueError("criterion soft and `centre` belong together")
        self._absolute_is_possible()
        if self.band is None and self.rate is None and not self.absolute:
            raise ValueError("give a rate")
        if self.band is not None and not 0 <= self.band[0] < self.band[1] <= 1:
            raise ValueError(f"band {list(map(str, self.band))} is not 0 <= a < b <= 1")
        if self.rate is not None and not 0 < self.rate <= 1:
            raise ValueError(f"rate {self.rate} is not above 0 and at most 1")
        if self.centre is not None and not 0 <= self.centre <= 1:
            raise ValueError(f"centre {self.centre} is not between 0 and 1")
        if not Decimal("0.001") <= self.spread <= 1000:
            raise ValueError(f"spread {self.spread} is not between 0.001 and 1000")
        if self.rule == "paper":
            if self.unit != "documents":
                raise ValueError("rule paper counts documents: set unit to documents")
            if self.bounded or self.criterion == "soft":
                raise ValueError("rule paper knows no floor, cap, protect or soft sampling")
        self._bounds_hold()
        return self

    def _absolute_is_possible(self) -> None:
        has_ends = self.min is not None or self.max is not None
        if (self.criterion == "range") != has_ends:
            raise ValueError("criterion range and `min` or `max` belong together")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if has_ends and (self.metric not in ("perplexity", "bpb") or self.by != "corpus"):
            raise ValueError("a range is in perplexity or bpb, over the whole corpus")
        if self.tokens is not None and (
            has_ends or self.criterion not in ("low", "medium", "high")
        ):
            raise ValueError("tokens go with criterion low, medium or high")
        if self.tokens is not None and self.unit != "tokens":
            raise ValueError("tokens count tokens: set unit to tokens")
        if self.absolute and (self.bounded or self.rule == "paper"):
            raise ValueError(
                "a range or a count of tokens knows no floor, cap, protect, rule paper"
            )

    @property
    def absolute(self) -> bool:
        """Whether it says how much in figures rather than shares: which documents these are is
        known once there are scores."""
        return self.tokens is not None or self.min is not None or self.max is not None

    def results(self) -> dict[str, Any]:
        """Without what slices of shares do not have."""
        found = super().results()
        return {k: v for k, v in found.items() if v is not None or k not in ABSOLUTE_KEYS}

    def _bounds_hold(self) -> None:
        for what, shares in (("floor", self.floor), ("cap", self.cap)):
            for share in shares.values() if isinstance(shares, dict) else [shares]:
                if share is not None and not 0 <= share <= 1:
                    raise ValueError(f"{what} {share} is not between 0 and 1")
        named = {d for s in (self.floor, self.cap) if isinstance(s, dict) for d in s}
        for domain in sorted({*named, *self.protect}):
            low, high = self.bounds_of(domain)
            if low > high:
                raise ValueError(f"floor {low} and cap {high} of {domain!r} cannot both hold")
        if not isinstance(self.floor, dict) and not isinstance(self.cap, dict):
            low, high = self.bounds_of(None)
            if low > high:
                raise ValueError(f"floor {low} and cap {high} cannot both hold")
        kept = self.rate if self.band is None else self.band[1] - self.band[0]
        if kept is not None and not isinstance(self.floor, dict) and (self.floor or 0) > kept:
            raise ValueError(f"floors keep {self.floor} of every domain, and the slice is {kept}")
        if kept is not None and not isinstance(self.cap, dict | None) and self.cap < kept:
            raise ValueError(f"caps leave {self.cap} of every domain, and the slice is {kept}")

    @property
    def bounded(self) -> bool:
        """Whether any domain has a floor or a cap."""
        return bool(self.protect) or self.floor is not None or self.cap is not None

    def bounds_of(self, domain: str | None) -> tuple[Decimal, Decimal]:
        """(least, largest) share to keep of a domain; None is one that no key names."""

        def share(shares: Shares, otherwise: Decimal) -> Decimal:
            if isinstance(shares, dict):
                return shares.get(domain, otherwise) if domain is not None else otherwise
            return otherwise if shares is None else shares

        if domain in self.protect:
            named = self.cap[domain] if isinstance(self.cap, dict) and domain in self.cap else None
            return Decimal(1), Decimal(1) if named is None else named
        return share(self.floor, Decimal(0)), share(self.cap, Decimal(1))

    def named_domains(self) -> set[str]:
        named = {d for s in (self.floor, self.cap) if isinstance(s, dict) for d in s}
        return {*named, *self.protect}

    @property
    def kept_share(self) -> float:
        """The share of documents or tokens that it keeps; of an absolute slice that is not resolved
        yet, a half."""
        if self.absolute and self.rate is None and self.band is None:
            return 0.5
        if self.band is not None:
            return float(self.band[1] - self.band[0])
        return float(self.rate or 0)

    @property
    def metric_name(self) -> str:
        """The figure that it ranks by, in one word."""
        return self.metric if isinstance(self.metric, str) else "difference"

    @property
    def scores_by(self) -> tuple[object, ...]:
        """Slices of equal ones rank alike: the same figure, groups and documents."""
        return (self.reference, self.metric, self.by, self.min_tokens)

    @property
    def amount(self) -> str:
        """How much it keeps: 50 percent, or 20-60 of a band; 20M tokens; a range of 20to100."""
        if self.tokens is not None:
            return _exact_count(self.tokens)
        if self.criterion == "range":
            ends = (self.min, self.max)
            return "to".join("" if e is None else format(e.normalize(), "f") for e in ends)
        shares = self.band if self.band is not None else (self.rate or Decimal(0),)
        return "-".join(format((100 * s).normalize(), "f") for s in shares)

    @property
    def share(self) -> str:
        """Slices of one share are of one size, and share a random control: those of equal amounts,
        but for ranges of other figures."""
        if self.criterion != "range":
            return f"{self.amount}-{self.unit}" if self._units_differ else self.amount
        figure = [self.metric_name] if self.metric != "perplexity" else []
        return "-".join([self.amount, *figure, *([self.reference] if self.reference else [])])

    @property
    def label(self) -> str:
        """What it is called: high-50, medium-12.5, band-20-60, high-50-by-domain."""
        if self.name is not None:
            return self.name
        words = [self.criterion, self.amount]
        if self.centre is not None:
            words.append(f"at-{format((100 * self.centre).normalize(), 'f')}")
        if self.by != "corpus":
            words.append("by-" + (self.by if isinstance(self.by, str) else "-".join(self.by)))
        if self.metric != "perplexity":
            words.append(self.metric_name)
        if self.reference is not None:
            words.append(self.reference)
        if self.rule == "paper":
            words.append("paper")
        return "-".join(words)


def _exact_count(number: int) -> str:
    """20000000 -> 20M; what has more digits than three as it is."""
    for unit, suffix in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if unit <= number < 1000 * unit and 1000 * number % unit == 0:
            return f"{number / unit:g}{suffix}"
    return str(number)


def refuse_twice(names: list[str], what: str) -> None:
    """Names become folders, on disks that may not tell capitals apart."""
    lower = [name.lower() for name in names]
    twice = [name for name in names if lower.count(name.lower()) > 1]
    if twice:
        raise ValueError(f"two {what} are called {twice[0]!r}: give one slice a `name`")


class Selection(Section):
    """The slices of a study. One slice is written flat; several share the keys beside `slices`,
    and lists of criteria and rates mean every combination."""

    slices: list[Slice] = Field([Slice()], min_length=1, description="several slices of one pass")

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        shared = {k: v for k, v in value.items() if k != "slices"}
        entries = value.get("slices", [{}])
        if not isinstance(entries, list):
            return value
        found: list[Any] = []
        for entry in entries:
            if isinstance(entry, Slice):
                found.append(entry)
                continue
            if not isinstance(entry, dict):
                raise ValueError("a slice is a table such as {criterion: high, rate: 0.5}")
            given = {**shared, **entry}
            own = {*entry} & AMOUNT_KEYS
            if own:  # its own amount takes the place of a shared one, and of its criterion
                aside = AMOUNT_KEYS | ({"criterion"} if own & {"band", "min", "max"} else set())
                given = {k: v for k, v in given.items() if k in entry or k not in aside}
            found += _combinations(given)
        return {"slices": found}

    @model_validator(mode="after")
    def _units_told(self) -> Selection:
        """Half of the documents and half of the tokens are not one size."""
        if len({choice.unit for choice in self.slices}) > 1:
            for choice in self.slices:
                choice._units_differ = True
        return self

    @model_validator(mode="after")
    def _named_once(self) -> Selection:
        refuse_twice([choice.label for choice in self.slices], "slices")
        return self

    @model_serializer
    def _written(self) -> dict[str, Any]:
        plain = [choice.model_dump(mode="json") for choice in self.slices]
        return plain[0] if len(plain) == 1 else {"slices": plain}

    def results(self) -> dict[str, Any]:
        return {"slices": [choice.results() for choice in self.slices]}


def _combinations(given: dict[str, Any]) -> list[dict[str, Any]]:
    lists = {
        key: given[key] for key in ("criterion", "rate") if isinstance(given.get(key), list | tuple)
    }
    found = []
    for values in itertools.product(*lists.values()):
        one = {**given, **dict(zip(lists, values, strict=True))}
        if "criterion" in lists and one["criterion"] != "soft":  # these are for the soft one
            one = {k: v for k, v in one.items() if k not in ("centre", "spread")}
        found.append(one)
    return found
