"""Headless Chromium, driven by the DevTools protocol over a pipe: needs nothing but the browser."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATH = shutil.which("chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
NOISE = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


class Browser:
    """A page.

    Attributes:
      told: what the console said: messages, exceptions, warnings of the browser.
      requested: addresses that were asked for.
    """

    def __init__(self, to: int, answers: int):
        self.to, self.answers = to, os.fdopen(answers, "rb")
        self.count, self.rest, self.session = 0, b"", ""
        self.told, self.requested, self.loaded = [], [], 0
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for part in ("Runtime", "Log", "Page", "Network"):
            self.call(f"{part}.enable")

    def call(self, method: str, **parameters):
        """One command; returns its result."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]

    def read(self) -> dict:
        """The next message; events are noted."""
        while b"\0" not in self.rest:
            part = self.answers.read1(1 << 20)
            assert part, "Chromium ended"
            self.rest += part
        line, self.rest = self.rest.split(b"\0", 1)
        message = json.loads(line)
        method, parameters = message.get("method", ""), message.get("params", {})
        if method in NOISE:
            self.told.append(parameters)
        if method == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])
        self.loaded += method == "Page.loadEventFired"
        return message

    def open(self, page: Path, width: int, height: int, *, dark: bool = False):
        """Loads a page in a window of this size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 500)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        before = self.loaded
        self.call("Page.navigate", url=page.as_uri())
        while self.loaded == before:
            self.read()

    def __call__(self, script: str):
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def middle(self, selector: str) -> tuple[float, float]:
        """Where an element is, after it was brought into view."""
        return self(
            "(e => { e.scrollIntoView({ block: 'center' }); const b = e.getBoundingClientRect();"
            f" return [b.x + b.width / 2, b.y + b.height / 2] }})({find(selector)})"
        )

    def hover(self, selector: str):
        """Moves the mouse onto an element."""
        x, y = self.middle(selector)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str):
        """Clicks an element."""
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, code: int, text: str = ""):
        """Presses a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text,
                      windowsVirtualKeyCode=code)  # fmt: skip


def find(selector: str) -> str:
    """The expression of an element."""
    return f"document.querySelector({json.dumps(selector)})"


@contextmanager
def browse(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile."""
    reads, to = os.pipe()
    answers, writes = os.pipe()
    # The browser reads commands from descriptor 3 and answers on 4.
    shell = ["bash", "-c", f'exec "$@" 3<&{reads} 4>&{writes}', "bash"]
    with subprocess.Popen(
        [*shell, PATH, *FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(reads, writes), stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        os.close(reads)
        os.close(writes)
        browser = None
        try:
            browser = Browser(to, answers)
            yield browser
        finally:
            process.terminate()
            os.close(to)
            if browser:
                browser.answers.close()
