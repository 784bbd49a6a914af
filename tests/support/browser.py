"""A headless Chromium for tests, driven by chromedriver over the WebDriver protocol (W3C)."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_browser() -> tuple[str, str] | None:
    """Paths of Chromium and chromedriver; None where one is missing."""
    chromium = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None


class Browser:
    """One window. Scripts are the bodies of functions: `return document.title`."""

    def __init__(self, address: str, session: str) -> None:
        self.address = f"{address}/session/{session}"

    def call(self, command: str, **values: object) -> Any:
        return post(f"{self.address}/{command}", values)

    def cdp(self, command: str, **parameters: object) -> Any:
        return self.call("goog/cdp/execute", cmd=command, params=parameters)

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        self.cdp(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        # Without motion: a page is judged as it stands, never half-way through a change of colour.
        preferences = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce",
        }
        self.cdp(
            "Emulation.setEmulatedMedia",
            features=[{"name": name, "value": value} for name, value in preferences.items()],
        )

    def open(self, page: Path | str) -> None:
        self.call("url", url=page.as_uri() if isinstance(page, Path) else page)

    def run(self, script: str, *arguments: object) -> Any:
        return self.call("execute/sync", script=script, args=list(arguments))

    def wait(self, script: str, *, timeout_s: float = 50.0) -> Any:
        """The first true value of a script; an error with its last value otherwise."""
        until = time.monotonic() + timeout_s
        value = None
        while time.monotonic() < until:
            value = self.run(script)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"still {value!r} after {timeout_s} s: {script}")

    def click(self, selector: str, number: int = 0) -> None:
        """A real click in the middle of an element."""
        found = self.call("elements", using="css selector", value=selector)
        (element,) = found[number].values()
        self.call(f"element/{element}/click")

    def press(self, *keys: str) -> None:
        """Real key presses on whatever has the focus."""
        actions = [{"type": kind, "value": k} for k in keys for kind in ("keyDown", "keyUp")]
        self.call("actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def hold(self, key: str, seconds: float) -> None:
        """A key that stays down for a while."""
        actions = [
            {"type": "keyDown", "value": key},
            {"type": "pause", "duration": round(1000 * seconds)},
            {"type": "keyUp", "value": key},
        ]
        self.call("actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """The mouse pressed at one place of the window and released at another, in pixels."""
        places = [start, ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2), end]
        moves = [
            {"type": "pointerMove", "x": round(x), "y": round(y), "duration": 60} for x, y in places
        ]
        down, up = ({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp"))
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}}
        self.call("actions", actions=[mouse | {"actions": [moves[0], down, *moves[1:], up]}])

    def log(self) -> list[str]:
        """What pages have written to the console, errors among them, since the last call."""
        return [f"{row['level']}: {row['message']}" for row in self.call("se/log", type="browser")]


def post(url: str, values: dict[str, object]) -> Any:
    request = urllib.request.Request(
        url, json.dumps(values).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(f"{url}: {json.load(error)['value']['message']}") from None


@contextmanager
def headless(chromium: str, driver: str) -> Iterator[Browser]:
    """A browser for as long as the block lasts."""
    process = subprocess.Popen(
        [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        address = f"http://127.0.0.1:{_port(process)}"
        options = {
            "binary": chromium,
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio"],
        }
        capabilities = {
            "alwaysMatch": {
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
            }
        }
        session = post(f"{address}/session", {"capabilities": capabilities})["sessionId"]
        browser = Browser(address, session)
        try:
            yield browser
        finally:
            request = urllib.request.Request(browser.address, method="DELETE")
            urllib.request.urlopen(request, timeout=60).close()
    finally:
        process.terminate()
        process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()


def _port(process: "subprocess.Popen[str]") -> int:
    for line in process.stdout or ():
        if "started successfully on port" in line:
            return int(line.rstrip(".\n").rsplit(" ", 1)[1])
    raise AssertionError("chromedriver did not start")
