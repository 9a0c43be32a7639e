"""`python -m tests.docs_pictures RUN`: the README's pictures of the report and the review page, from a run.

Written to docs/report.png and docs/review.png; the run is copied, so that looking at it changes nothing.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.browser import CHROMIUM

DOCS = Path(__file__).resolve().parents[1] / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run, such as runs/demo")
    run: Path = parser.parse_args().run
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver, reviewed(run) as address:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1200, "height": 820})
        page.goto((run / "report.html").resolve().as_uri())
        high = page.locator("#pairs").bounding_box()["y"]  # down to the gallery
        page.set_viewport_size({"width": 1200, "height": int(high)})
        page.wait_for_timeout(1000)
        page.screenshot(path=DOCS / "report.png")
        page.set_viewport_size({"width": 1200, "height": 820})
        page.goto(address)
        page.wait_for_selector("#pair:not([hidden])")
        page.wait_for_timeout(1000)
        page.screenshot(path=DOCS / "review.png")
        browser.close()


@contextmanager
def reviewed(run: Path) -> Iterator[str]:
    """The address of the review page of a copy of the run."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(run, Path(folder) / run.resolve().name))
        command = [sys.executable, "-m", "filter.review", str(copy), "--port", "0", "--reviewer", "Ada"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        server.stdout.readline()
        try:
            yield server.stdout.readline().strip()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


if __name__ == "__main__":
    main()
