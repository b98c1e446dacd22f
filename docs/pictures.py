"""Draw the app's pictures for the README from a finished run.

python docs/pictures.py mlxprune-demo/run
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from mlxprune_tui.app import Monitor
from mlxprune_tui.shell.settings import Settings
from mlxprune_tui.testing import opened, show, until

HERE = Path(__file__).parent
SHOWN = ("overview", "scoring", "selection", "training")
CELLS, ROWS = 120, 34


def main() -> None:
    run = Path(sys.argv[1])

    async def go() -> None:
        app = Monitor(run, remember=False, kept=Settings(theme="textual-dark"))
        async with app.run_test(size=(CELLS, ROWS)) as pilot:
            await opened(app, pilot)
            for name in SHOWN:
                await show(app, pilot, name)
                await until(pilot, lambda: app.page.nothing() is None)
                if name == "selection":
                    for key in ("up", "up", "up"):
                        await pilot.press(key)
                await pilot.pause(1.5)
                app.page.renew()
                await pilot.pause(0.3)
                svg = app.export_screenshot(simplify=True)
                # A page that shows it would fetch these fonts from elsewhere.
                svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
                (HERE / f"app-{name}.svg").write_text(svg)
                print(HERE / f"app-{name}.svg")

    asyncio.run(go())


if __name__ == "__main__":
    main()
