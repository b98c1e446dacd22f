"""Draw the app's pictures for the README from a finished run.

python docs/pictures.py mlxprune-demo/run
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mlxprune_tui.app import Monitor
from mlxprune_tui.shell.settings import Settings

FOLDER = Path(__file__).parent
SIZE = (120, 36)
PICTURES = {
    "app-scoring": ["2"],
    "app-selection": ["3", "left", "left", "left", "left"],
    "app-training": ["4", "a"],
}


async def draw(run: Path) -> None:
    for name, keys in PICTURES.items():
        app = Monitor(run, remember=False, kept=Settings(theme="textual-dark"))
        async with app.run_test(size=SIZE) as pilot:
            while app.desk.view is None or not app.desk.view.loaded:
                await pilot.pause(0.1)
            for key in keys:
                await pilot.press(key)
                await pilot.pause(1.0)
            text = app.export_screenshot(title="mlxprune tui", simplify=True)
        # Fonts of other hosts are not asked for: the reader's own will do.
        lines = [line for line in text.split("\n") if "cdnjs" not in line]
        (FOLDER / f"{name}.svg").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(draw(Path(sys.argv[1])))
