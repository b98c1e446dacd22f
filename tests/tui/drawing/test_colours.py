from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from textual.color import Color
from textual.theme import BUILTIN_THEMES

from mlxprune.experiment.arm_styles import STYLES
from mlxprune.run.events import read_records
from mlxprune.run.folder import RunFolder
from mlxprune_tui.app import SCREENS, Monitor
from mlxprune_tui.drawing.cells import GLYPHS
from mlxprune_tui.drawing.colours import DARK_ARMS, styles
from mlxprune_tui.shell.settings import Settings
from mlxprune_tui.testing import check_frame, frame, opened, show, until, write_segment


def test_hostile_names_reach_no_terminal(tmp_path: Path, tiny_run: RunFolder) -> None:
    """Escapes, overrides, markup and floods of marks in everything that a log can say."""
    bad = "\x1b[31m\x07[bold]x[/nope]\u202e\u200b" + 4 * "\u0301" + "\u4f60\ud7ff\U0001f469\u200d"
    records = []
    for n, event in enumerate(read_records(tiny_run.events)):
        told = dict(event)
        for key in ("run", "why", "message", "what", "device"):
            if isinstance(told.get(key), str):
                told[key] = bad + str(n % 7)
        if told["kind"] == "run.end":
            told |= {"status": "failed", "error": dict.fromkeys(("problem", "where", "fix"), bad)}
        if told["kind"] == "histogram":
            told["domains"] = {bad + k: v for k, v in told["domains"].items()}
        records.append(told)
    warned = {**records[-1], "kind": "warning", "message": bad, "stage": "corpus"}
    folder = tmp_path / "run"
    write_segment(folder / "events", [*records[:-1], warned, records[-1]])
    (folder / "run.json").write_bytes(tiny_run.run_json.read_bytes())
    (folder / "config.yaml").write_bytes(tiny_run.config.read_bytes())

    async def go() -> None:
        app = Monitor(folder, remember=False)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            for name in SCREENS:
                await show(app, pilot, name)
                check_frame(app, 120, 40)
            await pilot.press("question_mark")
            await pilot.press("escape")
            assert app.session.view is not None
            app.notices.standing = "running"
            app.notices.tell(app.session.view, app.notify)
            await pilot.press("ctrl+p")
            await until(pilot, lambda: len(app.screen_stack) > 1)
            await pilot.pause(0.3)

    asyncio.run(go())


@pytest.mark.slow
def test_no_colour_and_few_colours(tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unset style kills an app under NO_COLOR; kept and dropped differ without colour."""
    monkeypatch.setenv("NO_COLOR", "1")

    async def go() -> None:
        for theme in ("textual-dark", "textual-light", "ansi-dark"):
            app = Monitor(tiny_run.path, remember=False, kept=Settings(theme=theme))
            async with app.run_test(size=(100, 30)) as pilot:
                await opened(app, pilot)
                for name in SCREENS:
                    await show(app, pilot, name)
                await show(app, pilot, "scoring")
                assert GLYPHS["braille"].kept in frame(app)
                assert GLYPHS["braille"].dropped in frame(app)

    asyncio.run(go())


@pytest.mark.slow
def test_ascii_glyphs_are_ascii(tiny_run: RunFolder) -> None:
    async def go() -> None:
        app = Monitor(tiny_run.path, remember=False, kept=Settings(glyphs="ascii"))
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(app, pilot)
            for name in SCREENS:
                await show(app, pilot, name)
                assert frame(app).isascii(), name

    asyncio.run(go())


TEXTURE = 0.75  # of a cell that the texture of dropped bars covers


def contrast(one: Color, other: Color) -> float:
    """The ratio of relative luminances, WCAG 2.1."""

    def luminance(colour: Color) -> float:
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
                 for c in colour.normalized]  # fmt: skip
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["textual-dark", "textual-light", "nord", "gruvbox"])
def test_bars_stand_out_from_their_ground(name: str) -> None:
    """At 3 to 1 and more (WCAG 2.1, graphics), dropped ones with their texture, too."""
    known = styles(BUILTIN_THEMES[name])
    for style, cover in (("kept", 1.0), ("dropped", TEXTURE), ("train", 1.0), ("valid", 1.0)):
        found = known[style]
        assert found.color is not None
        assert found.bgcolor is not None
        ground = Color.parse(found.bgcolor.name)
        ink = ground.blend(Color.parse(found.color.name), cover)
        assert contrast(ink, ground) >= 3.0, style


def test_every_kind_of_arm_has_a_colour() -> None:
    assert set(DARK_ARMS) == set(STYLES)
    for name in ("textual-dark", "textual-light", "ansi-dark"):
        assert {f"arm-{kind}" for kind in STYLES} <= set(styles(BUILTIN_THEMES[name]))
