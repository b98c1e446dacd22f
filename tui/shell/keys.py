"""Keys: the one table of what every key does, where. Dispatch, key line, help and docs read it."""

from __future__ import annotations

from dataclasses import dataclass

SCREENS = ("overview", "scoring", "selection", "training", "compare", "documents", "runs")
EVERYWHERE = "everywhere"


@dataclass(frozen=True)
class Key:
    """``key`` as Textual names it, ``shown`` as people do; ``action`` is the name that settings
    remap it by; ``short`` stands in the key line where there is room, lower ``rank`` first."""

    key: str
    shown: str
    action: str
    screen: str
    short: str
    told: str
    rank: int = 5


def _keys(screen: str, *rows: tuple[str, str, str, str, str, int]) -> tuple[Key, ...]:
    return tuple(Key(k, s, a, screen, short, told, rank) for k, s, a, short, told, rank in rows)


KEYS: tuple[Key, ...] = (
    *(
        Key(str(n), str(n), f"show_{name}", EVERYWHERE, "", f"show {name}", 9)
        for n, name in enumerate(SCREENS, 1)
    ),
    *_keys(
        EVERYWHERE,
        ("question_mark", "?", "help", "help", "all keys of this screen", 1),
        ("ctrl+p", "^p", "palette", "palette", "search everything that can be done", 7),
        ("q", "q", "detach", "detach", "leave; the run goes on", 1),
        ("escape", "esc", "back", "", "back: close, unzoom, or the screen before", 9),
        ("tab", "tab", "next_pane", "", "the next pane", 9),
        ("shift+tab", "shift+tab", "previous_pane", "", "the pane before", 9),
        ("z", "z", "zoom", "zoom", "the pane in hand fills the screen, and back", 6),
        ("space", "space", "freeze", "", "hold the picture still; nothing is lost", 9),
        ("left_square_bracket", "[", "previous_run", "", "the run before in this folder", 9),
        ("right_square_bracket", "]", "next_run", "", "the next run in this folder", 9),
        ("P", "P", "pause", "", "ask the run to save and wait", 9),
        ("R", "R", "resume", "", "let a paused run go on", 9),
        ("C", "C", "checkpoint", "", "ask the run to save a checkpoint now", 9),
        ("X", "X", "stop", "", "ask the run to save and end; it can go on later", 9),
        ("T", "T", "theme", "", "the next theme", 9),
        ("y", "y", "copy", "", "copy what this screen is about", 9),
    ),
    *_keys(
        "overview",
        ("up", "up", "up", "", "the stage above", 9),
        ("down", "down", "down", "", "the stage below", 9),
        ("enter", "enter", "open", "open stage", "the screen of this stage", 2),
        ("l", "l", "since", "since you left", "what happened while you were away, again", 4),
    ),
    *_keys(
        "scoring",
        ("w", "w", "weight", "weight", "count documents, tokens or bytes", 2),
        ("g", "g", "log", "log", "logarithmic heights", 3),
        ("s", "s", "sort", "sort", "order of the domains", 3),
        ("f", "f", "fit", "fit", "the whole range, or where nearly all lies", 4),
    ),
    *_keys(
        "selection",
        ("c", "c", "criterion", "criterion", "low, medium, high or band", 2),
        ("left", "left/right", "less", "rate", "keep one percent less, or more", 3),
        ("right", "right", "more", "", "keep more: one percent", 9),
        ("down", "down", "much_less", "", "keep less: ten percent", 9),
        ("up", "up", "much_more", "", "keep more: ten percent", 9),
        ("comma", ",", "edge_down", "", "move the edge in hand down by one percent (a band)", 9),
        (
            "full_stop",
            ".",
            "edge_up",
            "edge",
            "move the edge in hand up by one percent (a band)",
            4,
        ),
        ("b", "b", "edge", "", "take the other edge in hand", 9),
        ("u", "u", "unit", "unit", "the rate counts documents or tokens", 3),
        ("o", "o", "group", "group", "rank in the corpus, by domain, by domain and length", 3),
        ("n", "n", "sample", "sample", "other documents around the edge", 4),
        ("s", "s", "slice", "slice", "begin from the next slice of the run", 5),
        ("r", "r", "reset", "reset", "back to what the run does", 4),
        ("w", "w", "write", "write YAML", "write the YAML that makes it so, beside the run", 4),
    ),
    *_keys(
        "training",
        ("m", "m", "model", "model", "the next model", 2),
        ("M", "M", "previous_model", "", "the model before", 9),
        ("v", "v", "figure", "figure", "loss, rate of learning, gradient, speed, use", 2),
        ("a", "a", "all", "all arms", "every arm's validation in one picture", 3),
        ("x", "x", "axis", "axis", "by tokens, steps or time", 3),
        ("g", "g", "log", "log y", "logarithmic heights", 4),
        ("G", "G", "log_x", "", "logarithmic axis", 9),
        ("s", "s", "smooth", "smooth", "how smooth; the raw line stays, faint", 4),
        ("left", "left/right", "cursor_left", "cursor", "move the cursor", 5),
        ("right", "right", "cursor_right", "", "move the cursor", 9),
        ("plus", "+", "zoom_in", "", "closer, around the cursor or the end", 9),
        ("minus", "-", "zoom_out", "", "farther", 9),
        ("0", "0", "reset", "", "the whole picture, no cursor", 9),
    ),
    *_keys(
        "compare",
        ("a", "a", "first", "first", "choose the first arm or run", 2),
        ("b", "b", "second", "second", "choose the second", 2),
        ("d", "d", "what", "what", "verdicts, tasks, domains or configuration", 2),
        ("x", "x", "axis", "axis", "by tokens, steps or time", 4),
        ("r", "r", "relative", "difference", "the second minus the first", 3),
        ("down", "down", "down", "", "scroll the table down", 9),
        ("up", "up", "up", "", "scroll the table up", 9),
    ),
    *_keys(
        "documents",
        ("down", "down", "down", "", "the next document", 9),
        ("up", "up", "up", "", "the document before", 9),
        ("pagedown", "pgdn", "page_down", "", "a page down", 9),
        ("pageup", "pgup", "page_up", "", "a page up", 9),
        ("home", "home", "first", "", "the first document", 9),
        ("end", "end", "last", "", "the last document", 9),
        ("slash", "/", "filter", "filter", "domain:code nll>4 nll<5 tokens>100 kept text words", 2),
        ("k", "k", "kept", "kept", "kept, dropped or all", 2),
        ("d", "d", "domain", "domain", "the next domain, then all", 3),
        ("s", "s", "sort", "sort", "by score, length or as in the corpus", 3),
        ("S", "S", "reverse", "", "turn the order around", 9),
        ("percent_sign", "%", "jump", "jump", "go to a percentile of the list", 4),
        ("h", "h", "heat", "heat", "the loss of every token, asked of the reference", 3),
        ("J", "J", "text_down", "", "scroll the text down", 9),
        ("K", "K", "text_up", "", "scroll the text up", 9),
        ("i", "i", "slice", "", "kept and dropped by the next slice", 9),
    ),
    *_keys(
        "runs",
        ("down", "down", "down", "", "the next run", 9),
        ("up", "up", "up", "", "the run before", 9),
        ("enter", "enter", "open", "open", "open the run", 2),
        ("m", "m", "mark", "mark", "mark it for Compare", 3),
        ("s", "s", "sort", "sort", "by time, name, state or figure", 3),
        ("slash", "/", "filter", "filter", "words of name, state or stage; !word without it", 3),
        ("n", "n", "new", "new run", "start a run from a configuration, in the background", 3),
    ),
)


def of_screen(screen: str, remapped: dict[str, str] | None = None) -> list[Key]:
    """The keys of a screen, its own first. ``remapped`` names keys by screen.action."""
    found = [k for k in KEYS if k.screen == screen] + [k for k in KEYS if k.screen == EVERYWHERE]
    changed = remapped or {}
    result = []
    for key in found:
        own = changed.get(f"{key.screen}.{key.action}")
        result.append(
            key if not own else Key(own, own, key.action, key.screen, key.short, key.told, key.rank)
        )
    return result


def line(screen: str, remapped: dict[str, str] | None, cells: int) -> list[Key]:
    """The keys that the key line shows in so many cells, the needful ones first."""
    able = sorted((k for k in of_screen(screen, remapped) if k.short), key=lambda k: k.rank)
    used, found = 0, []
    for key in able:
        room = len(key.shown) + len(key.short) + 3
        if used + room <= cells:
            used += room
            found.append(key)
    own = [k for k in found if k.screen != EVERYWHERE]
    return own + [k for k in found if k.screen == EVERYWHERE]


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
        lines.append(f"| `{shown}` | {key.screen} | {key.told} | `{key.screen}.{key.action}` |")
    return "\n".join(lines) + "\n"
