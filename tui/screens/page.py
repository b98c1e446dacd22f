"""Page: a screen as a layout of panes, drawn whole as text for any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlxprune.config.schema import Config
from mlxprune_tui.drawing.cells import Glyphs, Line, beside, box, pad
from mlxprune_tui.drawing.text import line_of, wrap
from mlxprune_tui.readers.run_view import View

WIDE, TALL = 100, 30  # from here on there is room for panes side by side, and for more of them
SHORT = 18  # below, the first pane is what matters
Draw = Callable[[int, int], list[Line]]


@dataclass(frozen=True)
class Pane:
    """``draw`` gives the lines inside the frame for a size in cells and rows."""

    title: str
    draw: Draw


@dataclass(frozen=True)
class Split:
    """Children side by side or stacked; a whole size is cells or rows, a float a share of what the
    whole ones leave."""

    across: bool
    parts: list[tuple[float, Layout]]


Layout = Pane | Split


@dataclass(frozen=True)
class Place:
    """Where a pane was drawn: for the mouse."""

    pane: Pane
    x: int
    y: int
    cells: int
    rows: int


def panes_of(layout: Layout) -> list[Pane]:
    if isinstance(layout, Pane):
        return [layout]
    return [pane for _, child in layout.parts for pane in panes_of(child)]


def places(layout: Layout, x: int, y: int, cells: int, rows: int) -> list[Place]:
    """The rectangles of all panes."""
    if isinstance(layout, Pane):
        return [Place(layout, x, y, cells, rows)]
    whole = cells if layout.across else rows
    found: list[Place] = []
    at = 0
    for size, (_, child) in zip(_sizes(layout, whole), layout.parts, strict=True):
        if layout.across:
            found += places(child, x + at, y, size, rows)
        else:
            found += places(child, x, y + at, cells, size)
        at += size
    return found


def _sizes(split: Split, whole: int) -> list[int]:
    fixed = sum(s for s, _ in split.parts if isinstance(s, int))
    shares = sum(s for s, _ in split.parts if not isinstance(s, int))
    left = max(0, whole - int(fixed))
    result, ends = [], 0.0
    given = 0
    for size, _ in split.parts:
        if isinstance(size, int):
            result.append(size)
        else:
            ends += left * size / shares
            result.append(round(ends) - given)
            given = round(ends)
    at = 0
    for number, size in enumerate(result):  # what does not fit gives way from the end
        result[number] = min(size, whole - at)
        at += result[number]
    result[-1] += whole - at
    return result


def render(
    layout: Layout, cells: int, rows: int, held: int, zoomed: bool, glyphs: Glyphs
) -> list[Line]:
    """Exactly ``rows`` lines of exactly ``cells`` cells; pane number ``held`` is marked."""
    panes = panes_of(layout)
    marked = panes[held % len(panes)]
    if zoomed:
        layout = marked
    lines = _render(layout, cells, rows, marked if len(panes) > 1 else None, glyphs)
    return [pad(line, cells) for line in (lines + [[]] * rows)[:rows]]


def _render(layout: Layout, cells: int, rows: int, held: Pane | None, glyphs: Glyphs) -> list[Line]:
    if rows <= 0 or cells <= 0:
        return []
    if isinstance(layout, Pane):
        try:
            inner = layout.draw(max(1, cells - 2), max(1, rows - 2))
        except Exception as error:
            inner = [[(line, "warn")] for line in wrap(f"cannot be drawn: {error!r}", cells - 2, 4)]
        return box(layout.title, inner, cells, rows, glyphs, layout is held)
    sizes = _sizes(layout, cells if layout.across else rows)
    if layout.across:
        parts = [
            _render(child, size, rows, held, glyphs)
            for size, (_, child) in zip(sizes, layout.parts, strict=True)
            if size > 0
        ]
        return beside(parts)
    return [
        line
        for size, (_, child) in zip(sizes, layout.parts, strict=True)
        for line in _render(child, cells, size, held, glyphs)
    ]


@dataclass(frozen=True)
class Ask:
    """A line of text is wanted; ``then`` takes it, and returns a sentence or None."""

    title: str
    given: str
    then: Callable[[str], Answer]
    hint: str = ""


Answer = str | Ask | None


@dataclass
class AppContext:
    """What all screens share: the run in hand, how it is drawn, what was chosen before."""

    view: View | None
    glyphs: Glyphs
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: float | None = None  # when this run was last looked at
    folder: Any = None  # where runs are looked for
    marked: list[str] = field(default_factory=list)  # runs to compare, by folder
    open: Callable[[Any], None] = lambda folder: None  # show another run
    go: Callable[[str], None] = lambda screen: None  # show another screen
    tell: Callable[[str], None] = lambda sentence: None  # a sentence for the person

    # Work that would hold up the keys is done aside; without an app, at once.
    later: Callable[[Callable[[], Any], Callable[[Any], None]], None] = lambda work, done: done(
        work()
    )


class Page:
    """A screen. ``press`` does what a key means here and returns a sentence for the person, a
    question, or None; ``why_not`` says why a key can do nothing now."""

    name = ""
    defaults: dict[str, Any] = {}  # noqa: RUF012 (read, never written)
    choices: dict[str, Sequence[Any]] = {}  # noqa: RUF012 (what an option can be, where few)

    def __init__(self, context: AppContext) -> None:
        self.context = context
        kept = context.options.get(self.name, {})
        self.options = {
            key: kept[key] if self.sound(key, kept.get(key)) else usual
            for key, usual in self.defaults.items()
        }
        context.options[self.name] = self.options
        self.held, self.zoomed = 0, False

    def in_hand(self) -> tuple[View, Config] | str:
        """The run in hand with its configuration; or why there is none."""
        view = self.context.view
        if view is None:
            return "no run is open"
        config = view.config
        return (view, config) if config is not None else str(view.config_trouble)

    def sound(self, key: str, value: Any) -> bool:
        """Whether an option that was kept can be used again."""
        usual, known = self.defaults[key], self.choices.get(key)
        return type(value) is type(usual) and (known is None or value in known)

    def layout(self, cells: int, rows: int) -> Layout:
        raise NotImplementedError

    def draw(self, cells: int, rows: int) -> list[Line]:
        glyphs = self.context.glyphs
        try:
            layout = self.layout(cells, rows)
        except Exception as error:  # odd values of a log must not end who looks at it
            layout = empty(f"This screen cannot be drawn: {line_of(repr(error))}")
        return render(layout, cells, rows, self.held, self.zoomed, glyphs)

    def press(self, action: str) -> Answer:
        found: Answer = getattr(self, f"do_{action}")()
        return found

    def back(self) -> bool:
        """Undo what escape undoes first; whether there was anything."""
        return False

    def tick(self) -> bool:
        """Look at what is not in the log, now and then; whether anything is new."""
        return False

    def why_not(self, action: str) -> str | None:
        return None

    def copied(self) -> str | None:
        """What the key for copying takes along."""
        return None

    def clicked(self, pane: str, x: int, y: int) -> None:
        """A click inside a pane's frame."""

    def cycle(self, key: str, values: list[Any], step: int = 1) -> Any:
        """The next value of an option."""
        now = self.options[key]
        at = values.index(now) if now in values else -step if step > 0 else 0
        self.options[key] = values[(at + step) % len(values)]
        return self.options[key]


def empty(*sentences: str) -> Pane:
    """A screen with nothing to show says so, and what to do."""

    def draw(cells: int, rows: int) -> list[Line]:
        top = max(0, (rows - len(sentences)) // 2)
        return [*([[]] * top), *[[(f"  {s}", "")] for s in sentences]]

    return Pane("nothing to show yet", draw)


def say(pairs: list[tuple[str, str, str]], cells: int) -> list[Line]:
    """Rows of a name, what is told of it, and the style of that. What is bold is to be read or
    copied whole: it goes on in further rows."""
    room = max((len(name) for name, _, _ in pairs), default=0) + 1
    lines: list[Line] = []
    for name, told, style in pairs:
        parts = wrap(told, max(8, cells - room), 6) if style in ("bold", "bad") else [told]
        for number, part in enumerate(parts or [""]):
            head = name if number == 0 else ""
            lines.append(pad([(head.ljust(room), "head"), (part, style)], cells))
    return lines
