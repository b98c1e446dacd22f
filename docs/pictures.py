"""Draw the pictures of the README from a finished run: the app's, and the report's first page where
Chromium or Chrome is installed.

python docs/pictures.py mlxprune-demo/run
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

from mlxprune_tui.app import Monitor
from mlxprune_tui.shell.settings import Settings
from mlxprune_tui.testing import opened, show, until

HERE = Path(__file__).parent
SHOWN = ("overview", "scoring", "selection", "training")
CELLS, ROWS = 120, 34
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REPORT_SIZE = "1100,1000"


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
    picture_of_report(run / "report.html")


def picture_of_report(page: Path) -> None:
    """The top of the report as a browser draws it."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("no Chromium here: docs/report.png stays as it is")
        return
    out = HERE / "report.png"
    subprocess.run(
        [browser, "--headless", "--no-sandbox", "--hide-scrollbars", f"--screenshot={out}",
         f"--window-size={REPORT_SIZE}", page.absolute().as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    print(out)


if __name__ == "__main__":
    main()
