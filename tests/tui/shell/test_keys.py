from __future__ import annotations

from pathlib import Path

import pytest

from mlxprune_tui.app import PAGES, Monitor
from mlxprune_tui.shell import bars, keys, settings

DOCS = Path(__file__).parents[3] / "docs" / "keys.md"


@pytest.mark.parametrize("screen", keys.SCREENS)
def test_one_key_means_one_thing_on_a_screen(screen: str) -> None:
    found = [k.key for k in keys.of_screen(screen)]
    assert len(found) == len(set(found))


@pytest.mark.parametrize("key", keys.KEYS, ids=lambda k: f"{k.screen}.{k.action}")
def test_every_key_has_something_that_it_does(key: keys.Key) -> None:
    if key.screen == keys.EVERYWHERE:
        known = key.action.startswith("show_") or key.action in (
            "pause", "resume", "checkpoint", "stop",
        )  # fmt: skip
        assert known or hasattr(Monitor, f"key_{key.action}_pressed")
    else:
        page = PAGES[key.screen]
        assert hasattr(page, f"do_{key.action}") or (key.screen, key.action) == (
            "overview", "open",
        )  # fmt: skip


@pytest.mark.parametrize("cells", [60, 80, 120, 200])
def test_the_key_line_fits_and_always_has_help_and_the_way_out(cells: int) -> None:
    for screen in keys.SCREENS:
        shown = keys.line(screen, None, cells - 2)
        line = bars.keys([(k, True) for k in shown], cells)
        assert sum(len(text) for text, _ in line) == cells
        assert {"help", "detach"} <= {k.action for k in shown}


def test_keys_can_be_remapped() -> None:
    found = keys.of_screen("training", {"training.model": "ctrl+n"})
    assert [k.key for k in found if k.action == "model"] == ["ctrl+n"]


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
