from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.binding import Binding

from mlxprune_tui.app import SCREENS, Monitor
from mlxprune_tui.screens.base import RunScreen
from mlxprune_tui.screens.reader import Reader
from mlxprune_tui.shell import keys, settings
from mlxprune_tui.shell.help_texts import HELP
from mlxprune_tui.testing import opened, show, until

DOCS = Path(__file__).parents[3] / "docs" / "keys.md"


KINDS = {**SCREENS, keys.READER: Reader}


@pytest.mark.parametrize("screen", [*keys.SCREENS, keys.READER])
def test_one_key_means_one_thing_on_a_screen(screen: str) -> None:
    """A key of a screen may be one that means the same everywhere, in its own words."""
    own = [k.key for k in keys.KEYS if k.screen == screen]
    assert len(own) == len(set(own))
    everywhere = {k.key: k.action for k in keys.KEYS if k.screen == keys.EVERYWHERE}
    both = {key: everywhere[key] for key in own if key in everywhere}
    assert set(both.values()) <= {"show_selection"}


@pytest.mark.parametrize("key", keys.KEYS, ids=lambda k: k.id)
def test_every_key_has_something_that_it_does(key: keys.Key) -> None:
    kind = KINDS.get(key.screen, RunScreen)
    known = key.action in keys.RUN_VERBS or key.action.startswith(("show_", "as_"))
    assert known or hasattr(kind, f"do_{key.action}") or hasattr(Monitor, f"press_{key.action}")


def test_the_grammar_is_one() -> None:
    """What moves, opens, searches, copies and sorts has the same key on every screen."""
    wanted = {
        "filter": "slash", "search": "slash", "sort": "s", "axis": "t", "what": "c",
        "open": "enter",
        "read": "enter", "start": "enter",
    }  # fmt: skip
    for key in keys.KEYS:
        if key.action in wanted:
            assert key.key == wanted[key.action], key.id
        is_capital = key.key.isalpha() and key.key.isupper()
        assert not is_capital or key.action in (
            *keys.RUN_VERBS, "theme", "as_end", "previous_match",
        ), key.id  # fmt: skip


@pytest.mark.parametrize("screen", keys.SCREENS)
def test_the_footer_begins_with_what_is_most_needful(screen: str) -> None:
    shown = [b for b in keys.bindings(screen) if isinstance(b, Binding) and b.show]
    ranks = [k.rank for b in shown for k in keys.of_screen(screen) if k.id == b.id]
    assert ranks == sorted(ranks)
    assert all(b.id for b in shown)
    assert {"help", "leave"} <= {b.description for b in shown}


def test_keys_can_be_remapped(make_run: Callable[[str], Path]) -> None:
    async def go() -> None:
        kept = settings.Settings(keys={"training.figure": "ctrl+n"})
        app = Monitor(make_run("done"), kept=kept, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            await show(app, pilot, "training")
            await until(pilot, lambda: app.page.focused is not None)
            before = app.page.options["figure"]
            await pilot.press("v")
            assert app.page.options["figure"] == before
            await pilot.press("ctrl+n")
            await until(pilot, lambda: app.page.options["figure"] != before)

    asyncio.run(go())


def test_every_screen_has_help_on_itself() -> None:
    for screen in (*keys.SCREENS, keys.READER):
        told = HELP[screen]
        assert told.about.endswith(".")
        assert all(meaning and sample.strip() for sample, _, meaning in told.signs)


def test_the_page_of_keys_is_current() -> None:
    assert keys.page() == DOCS.read_text()


def test_settings_survive_and_odd_ones_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXPRUNE_CONFIG_HOME", str(tmp_path))
    assert settings.load() == settings.Settings()
    kept = settings.Settings(theme="nord", seen={"a": 1.0})
    assert settings.save(kept) is None
    assert settings.load() == kept
    for bad in ("[]", "{", '{"options": 3, "seen": [], "keys": null}', "null", "\x00"):
        settings.path().write_text(bad)
        assert settings.load() == settings.Settings()
    monkeypatch.setenv("MLXPRUNE_CONFIG_HOME", "/proc/none")
    assert "not kept" in str(settings.save(kept))


def test_glyphs_follow_the_terminal() -> None:
    usual = settings.Settings()
    assert settings.glyphs_of(usual, {"LANG": "en_US.UTF-8"}) == "braille"
    assert settings.glyphs_of(usual, {"LANG": "C"}) == "ascii"
    assert settings.glyphs_of(usual, {"LANG": "C", "LC_CTYPE": "C.UTF-8"}) == "ascii"
    assert settings.glyphs_of(usual, {"LC_CTYPE": "C.UTF-8"}) == "braille"
    assert settings.glyphs_of(usual, {"LC_ALL": "C", "LC_CTYPE": "C.UTF-8"}) == "ascii"
    assert settings.glyphs_of(usual, {}) == "braille"
    assert settings.glyphs_of(settings.Settings(glyphs="block"), {"LANG": "C"}) == "block"


def test_the_newest_looks_are_kept() -> None:
    kept = settings.Settings()
    kept.seen = {str(n): float(n) for n in range(settings.SEEN_KEPT + 5)}
    settings.save(kept)
    assert str(settings.SEEN_KEPT + 4) in settings.load().seen
    assert "0" not in settings.load().seen


def test_where_settings_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLXPRUNE_CONFIG_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    assert settings.path() == Path("/x/mlxprune/tui.json")


def test_what_is_asked_for_comes_before_what_was_kept() -> None:
    kept = settings.Settings(theme="nord", hertz=2.0, seen={"a": 1.0})
    chosen = kept.with_chosen("gruvbox", None, None)
    assert chosen == settings.Settings(theme="gruvbox", hertz=2.0, seen={"a": 1.0})
    assert kept.theme == "nord"
