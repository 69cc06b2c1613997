"""A headless Chromium, spoken to in the DevTools protocol over a pair of pipes: no driver, no port, no package."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
PATIENCE = 60.0  # seconds
# Chromium reads commands from descriptor 3 and writes answers to 4
_LAUNCH = "import os, sys; r, w, *rest = sys.argv[1:]; os.dup2(int(r), 3); os.dup2(int(w), 4); os.execv(rest[0], rest)"


def find_chromium() -> str | None:
    """The path of a Chromium or Chrome, None where there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One Chromium process with one blank page; `events` gathers everything it reports."""

    def __init__(self, executable: str, profile: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._count, self._unread = 0, b""
        (read_command, self._write), (self._read, write_answer) = _pipe(), _pipe()
        flags = [*FLAGS, f"--user-data-dir={profile}", "about:blank"]
        launch = [sys.executable, "-c", _LAUNCH, str(read_command), str(write_answer), executable, *flags]
        self._process = subprocess.Popen(
            launch, pass_fds=(read_command, write_answer), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(read_command)
        os.close(write_answer)
        self._session: str | None = None
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def _attach(self) -> None:
        """Talks to the page from now on, not to the browser."""
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, **parameters: Any) -> Any:
        """One command and its result."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while self._count not in self._answers:
            self._receive(deadline)
        answer = self._answers.pop(self._count)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, url: str, width: int, scheme: str = "light", height: int = 900) -> None:
        """Loads a page at a width in CSS pixels and waits until all of it is there."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + PATIENCE
        while not self.reported("Page.loadEventFired"):
            self._receive(deadline)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page, beyond the window too."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        shot = self.call(
            "Page.captureScreenshot",
            captureBeyondViewport=True,
            clip={"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1},
        )
        path.write_bytes(base64.b64decode(shot["data"]))

    def reported(self, method: str) -> list[dict[str, Any]]:
        """The parameters of every event of one kind since the page was opened."""
        return [event["params"] for event in self.events if event["method"] == method]

    def _receive(self, deadline: float) -> None:
        """Reads what has come: answers by number, everything else an event."""
        ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
        received = os.read(self._read, 1 << 16) if ready else b""
        if not received:
            raise TimeoutError("Chromium does not answer")
        *messages, self._unread = (self._unread + received).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self.events.append(message)


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are well above the descriptors 3 and 4."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]
