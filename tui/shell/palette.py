"""Palette: everything that can be done, to be searched: keys of this screen first, screens, arms,
runs, themes, glyphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from mlxprune_tui.drawing.text import line_of
from mlxprune_tui.shell import keys

# Words that people look for, and what they mean by them.
ALSO = {
    "training.all": "overfit arms validation", "compare.what": "verdict tasks domains why",
    "everywhere.export": "save write csv markdown svg picture table",
    "everywhere.copy": "clipboard yank command", "everywhere.show_compare": "verdict result "
                                                                            "who won",
    "everywhere.show_training": "overfit memorising epochs passes loss curve",
    "everywhere.show_scoring": "perplexity histogram", "everywhere.show_selection": "what if slice",
    "everywhere.leave": "quit exit detach", "everywhere.resume": "continue go on",
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """What can be chosen: its name, what it does, and how."""

    name: str
    told: str
    do: Callable[[], object]
    also: str = ""


class Choices(Provider):
    """Of what the app offers (``choices`` of it) those that fit what is typed; without a word,
    those of the screen in hand."""

    def _all(self) -> list[Choice]:
        found: list[Choice] = self.app.choices()  # type: ignore[attr-defined]
        return found

    async def discover(self) -> Hits:
        for choice in self._all():
            yield DiscoveryHit(
                Content(choice.name), choice.do, text=choice.name, help=choice.told
            )  # fmt: skip

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for choice in self._all():
            whole = f"{choice.name} {choice.told} {choice.also}"
            score = max(matcher.match(choice.name), 0.7 * matcher.match(whole))
            if score > 0:
                yield Hit(
                    score, Content(choice.name), choice.do, text=choice.name, help=choice.told
                )  # fmt: skip


def key_choices(screen: str, do: Callable[[keys.Key], object]) -> Iterator[Choice]:
    """The keys, those of a screen first."""
    own = [k for k in keys.KEYS if k.screen == screen]
    everywhere = [k for k in keys.KEYS if k.screen == keys.EVERYWHERE]
    others = [k for k in keys.KEYS if k.screen not in (screen, keys.EVERYWHERE, keys.READER)]
    for key in [*own, *everywhere, *others]:
        if key.action in ("palette", "back") or key.action.startswith("as_"):
            continue
        name = key.action.replace("_", " ")
        name = name if key.screen in (keys.EVERYWHERE, screen) else f"{key.screen}: {name}"
        yield Choice(
            line_of(name), f"{key.told}; key {key.shown}", lambda key=key: do(key),  # type: ignore[misc]
            ALSO.get(key.id, ""),
        )  # fmt: skip
