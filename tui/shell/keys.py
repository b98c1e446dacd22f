"""Keys: the one table of what every key does, where. Bindings, footer, help and docs read it.

One grammar over all screens: arrows or hjkl move, g and G go to the ends, enter opens, esc goes
back, / searches, y copies, e writes to a file, o opens, s sorts, t changes the axis; capitals are
for the run alone, but for G and N.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding, BindingType

SCREENS = ("overview", "scoring", "selection", "training", "compare", "documents", "runs")
READER = "reader"
EVERYWHERE = "everywhere"
RUN_VERBS = ("pause", "resume", "checkpoint", "stop")
HIDDEN = 9  # a rank that the footer has no room for


@dataclass(frozen=True)
class Key:
    """``key`` as Textual names it, ``shown`` as people do; ``action`` is the name that settings
    remap it by; ``short`` stands in the footer, lower ``rank`` first."""

    key: str
    shown: str
    action: str
    screen: str
    short: str
    told: str
    rank: int = 5

    @property
    def id(self) -> str:
        return f"{self.screen}.{self.action}"


def _keys(screen: str, *rows: tuple[str, str, str, str, str, int]) -> tuple[Key, ...]:
    return tuple(Key(k, s, a, screen, short, told, rank) for k, s, a, short, told, rank in rows)


# Keys that stand for others, so that lists, tables and charts are moved in one way.
ALIASES = {"h": "left", "j": "down", "k": "up", "l": "right", "g": "home", "G": "end"}

KEYS: tuple[Key, ...] = (
    *(
        Key(str(n), str(n), f"show_{name}", EVERYWHERE, "", f"show {name}", HIDDEN)
        for n, name in enumerate(SCREENS, 1)
    ),
    *_keys(
        EVERYWHERE,
        ("question_mark", "?", "help", "help", "what this screen shows, its signs, its keys", 7),
        ("q", "q", "leave", "leave", "leave; the run goes on", 7),
        ("y", "y", "copy", "copy", "copy: the command line that does what the screen shows, or "
         "the text, id or table of it", 6),
        ("e", "e", "export", "export", "write what the pane shows to a file: table or picture", 6),
        ("o", "o", "open_report", "report", "open the report, or the run's folder", 6),
        ("z", "z", "maximise", "zoom", "the pane in hand fills the screen, and back", 8),
        ("ctrl+p", "^p", "palette", "search", "search everything that can be done", 8),
        ("escape", "esc", "back", "", "back: close, unzoom, clear a filter, or the screen before",
         HIDDEN),
        ("space", "space", "hold", "", "hold the picture still; nothing is lost", HIDDEN),
        ("left_square_bracket", "[", "previous_run", "", "the run before in this folder", HIDDEN),
        ("right_square_bracket", "]", "next_run", "", "the next run in this folder", HIDDEN),
        ("P", "P", "pause", "", "ask the run to save and wait", HIDDEN),
        ("R", "R", "resume", "", "let a paused run go on, or start one that ended early again",
         HIDDEN),
        ("C", "C", "checkpoint", "", "ask the run to save a checkpoint now", HIDDEN),
        ("X", "X", "stop", "", "ask the run to save and end; it can go on later", HIDDEN),
        ("T", "T", "theme", "", "the next theme", HIDDEN),
        *((own, own, f"as_{other}", "", f"as {other}", HIDDEN) for own, other in ALIASES.items()),
    ),
    *_keys(
        "overview",
        ("enter", "enter", "open", "open stage", "the screen of the stage in hand", 2),
        ("n", "n", "news", "since you left", "what happened while you were away", 4),
    ),
    *_keys(
        "scoring",
        ("3", "3", "what_if", "what if", "ask what another slice would keep", 1),
        ("w", "w", "weight", "weight", "count documents, tokens or bytes", 2),
        ("v", "v", "log", "log", "logarithmic heights, and back", 3),
        ("f", "f", "fit", "fit", "the whole range, or where nearly all lies", 4),
        ("s", "s", "sort", "sort", "order of the domains", 3),
    ),
    *_keys(
        "selection",
        ("enter", "enter", "start", "start it", "start a run with this slice in the background", 1),
        ("c", "c", "criterion", "criterion", "low, medium, high or band", 2),
        ("left", "left", "less", "less", "keep one percent less", 2),
        ("right", "right", "more", "more", "keep one percent more", 2),
        ("down", "down", "much_less", "", "keep ten percent less", HIDDEN),
        ("up", "up", "much_more", "", "keep ten percent more", HIDDEN),
        ("comma", ",", "edge_down", "", "the edge in hand down by one percent (a band)", HIDDEN),
        ("full_stop", ".", "edge_up", "", "the edge in hand up by one percent (a band)", HIDDEN),
        ("b", "b", "edge", "", "take the other edge in hand", HIDDEN),
        ("u", "u", "unit", "unit", "the rate counts documents or tokens", 3),
        ("p", "p", "group", "group", "rank in the corpus, by domain, by domain and length", 3),
        ("a", "a", "hold_as_a", "hold as A", "hold this what-if as A, to compare others with", 3),
        ("d", "d", "documents", "other text", "other documents around the edge", 4),
        ("i", "i", "slice", "slice", "begin from the next slice of the run", 5),
        ("r", "r", "reset", "reset", "back to what the run does", 4),
        ("w", "w", "write", "write YAML", "write the configuration that makes it so", 3),
    ),
    *_keys(
        "training",
        ("m", "m", "model", "model", "the next model that has trained", 2),
        ("a", "a", "all", "all arms", "every arm's validation in one picture", 2),
        ("v", "v", "figure", "figure", "loss, rate of learning, gradient, speed, use", 3),
        ("t", "t", "axis", "axis", "by tokens, steps or time", 3),
        ("i", "i", "smooth", "smooth", "how smooth; the raw line stays, faint", 4),
        ("f", "f", "log", "log", "logarithmic heights, and back", 5),
        ("left", "left", "cursor_left", "", "move the cursor of the picture", HIDDEN),
        ("right", "right", "cursor_right", "", "move the cursor of the picture", HIDDEN),
        ("plus", "+", "zoom_in", "", "closer, around the cursor or the end; the wheel, too",
         HIDDEN),
        ("minus", "-", "zoom_out", "", "farther", HIDDEN),
        ("0", "0", "whole", "", "the whole picture, no cursor", HIDDEN),
    ),
    *_keys(
        "compare",
        ("c", "c", "what", "what", "domains, curves, tasks, or what differs", 2),
        ("a", "a", "first", "first", "choose the first arm or run", 3),
        ("b", "b", "second", "second", "choose the second", 3),
        ("d", "d", "difference", "difference", "of two curves the difference", 4),
        ("t", "t", "axis", "axis", "by tokens, steps or time", 4),
    ),
    *_keys(
        "documents",
        ("enter", "enter", "read", "read", "the document on the whole screen", 1),
        ("slash", "/", "filter", "filter", "domain:code nll>4 nll<5 tokens>100 kept text words", 2),
        ("f", "f", "kept", "kept", "kept, dropped or all", 2),
        ("d", "d", "domain", "domain", "the next domain, then all", 3),
        ("s", "s", "sort", "sort", "by score, length or as in the corpus", 3),
        ("r", "r", "reverse", "", "turn the order around", HIDDEN),
        ("percent_sign", "%", "jump", "jump", "go to a percentile of the list", 4),
        ("i", "i", "slice", "slice", "kept and dropped by the next slice", 5),
    ),
    *_keys(
        READER,
        ("slash", "/", "search", "search", "words in this document", 1),
        ("n", "n", "next_match", "next", "the next match", 2),
        ("N", "N", "previous_match", "", "the match before", HIDDEN),
        ("v", "v", "heat", "heat", "the loss of every token, asked of the reference", 1),
        ("p", "p", "peak", "peak", "the next token that costs most", 3),
        ("full_stop", ".", "next_document", "next document", "the next document of the list", 3),
        ("comma", ",", "previous_document", "", "the document before", HIDDEN),
        ("c", "c", "which", "copy what", "what y copies: id, text, place or command", 4),
    ),
    *_keys(
        "runs",
        ("enter", "enter", "open", "open", "open the run", 1),
        ("m", "m", "mark", "mark", "mark it for Compare", 3),
        ("s", "s", "sort", "sort", "by time, name, state or figure", 3),
        ("slash", "/", "filter", "filter", "words of name, state or slice; !word without it", 2),
        ("a", "a", "add", "new run", "start a run from a configuration, in the background", 3),
    ),
)  # fmt: skip


def of_screen(screen: str) -> list[Key]:
    """The keys of a screen, its own first."""
    return [k for k in KEYS if k.screen == screen] + [k for k in KEYS if k.screen == EVERYWHERE]


def bindings(screen: str) -> list[BindingType]:
    """The same for Textual, those first that the footer has room for. Their ids are what settings
    remap them by; ``do`` of the screen does them."""
    ordered = sorted(of_screen(screen), key=lambda key: key.rank)
    return [
        Binding(
            key.key,
            f"do('{key.action}')",
            key.short or key.action.replace("_", " "),
            show=bool(key.short),
            key_display=key.shown,
            tooltip=key.told,
            id=key.id,
        )
        for key in ordered
    ]


def of_action(screen: str, action: str) -> Key | None:
    return next((k for k in of_screen(screen) if k.action == action), None)


def page() -> str:
    """docs/keys.md."""
    lines = [
        "# Keys of the app",
        "",
        "Made by `python docs/generate.py` from `tui/shell/keys.py`; a test keeps it current.",
        "",
        "Remap one in the settings (`mlxprune tui --check` names the file) by its action, as in",
        '`"keys": {"training.model": "ctrl+n"}`.',
        "",
        "| key | screen | does | action |",
        "|---|---|---|---|",
    ]
    for key in KEYS:
        shown = key.shown.replace("|", "\\|")
        lines.append(f"| `{shown}` | {key.screen} | {key.told} | `{key.id}` |")
    return "\n".join(lines) + "\n"
