"""Real receivers of alerts: Debian's Alertmanager, an HTTP address of any behaviour, an SMTP server.

Promises: they keep what they got and count incidents as people would: an alert that fires is one until it is
resolved. Missing programs raise and say how to get them.
"""

import asyncio
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from aiosmtpd.controller import Controller
from standardwebhooks import Webhook

from infra import ports
from tests.servers import until

PROGRAMS = {
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
    "promtool": ("promtool",),
    "amtool": ("amtool",),
}
STATUS = {"ok": 200, "moved": 302, "error": 500, "gone": 410, "busy": 429}


def program(name: str) -> str:
    """The path of a program of Prometheus' world."""
    places = os.pathsep.join([os.environ.get("LEADLOG_MONITORING", ""), os.environ["PATH"]])
    for each in PROGRAMS[name]:
        if found := shutil.which(each, path=places):
            return found
    raise RuntimeError(
        f"no {name}: `./infra/test --install-only` installs it where apt is there, elsewhere "
        "LEADLOG_MONITORING names a folder that holds it"
    )


def free_port() -> int:
    """A port that nobody listens at now, and that no outgoing connection takes while its server is away."""
    return ports.choose({"": random.choice(ports.OTHERS)}, {}, ())[""]


class Receiver:
    """An HTTP address that takes webhooks, ours or Alertmanager's.

    `behaviours` are used up one a request, then all is well: `error`, `gone`, `busy` (Retry-After), `hang`,
    `close` (after receiving), `moved` (to where it is taken).
    """

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/"
        self.behaviours: list[str] = []
        self.retry_after = "1"
        self.got: list[tuple[float, dict[str, str], bytes]] = []
        """Monotonic seconds, headers, body of every request that was read, taken or not."""
        self.taken: list[dict[str, Any]] = []
        """Bodies that were answered with 200."""
        self._over = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def listen(self) -> None:
        """Opens its port, the same one every time."""
        self._over.clear()
        app = web.Application()
        app.router.add_post("/", self.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    async def leave(self) -> None:
        """Closes its port and lets go of hanging requests."""
        self._over.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        body = await request.read()
        self.got.append((time.monotonic(), dict(request.headers), body))
        behaviour = self.behaviours.pop(0) if self.behaviours else "ok"
        if behaviour == "hang":
            await self._over.wait()
        if behaviour == "close" and request.transport is not None:
            request.transport.close()
        if behaviour in ("ok", "close"):
            self.taken.append(await request.json())
        headers = {"busy": {"Retry-After": self.retry_after}, "moved": {"Location": self.url}}.get(behaviour)
        return web.Response(status=STATUS.get(behaviour, 200), headers=headers)

    def incidents(self) -> Counter[str]:
        """Alert key to the times it opened, by what our webhooks said, each message taken once."""
        return self._read()[0]

    def firing(self) -> set[str]:
        """The alerts that are not over, by the last that was heard of them."""
        return {key for key, state in self._read()[1].items() if state == "firing"}

    def _read(self) -> tuple[Counter[str], dict[str, str]]:
        opened: Counter[str] = Counter()
        state: dict[str, str] = {}
        seen: set[str] = set()
        for _, headers, body in self.got:
            told = Webhook("whsec_bmV3").verify(body, headers)["data"]
            if told["id"] not in seen:
                seen.add(told["id"])
                _count(opened, state, told["key"], told["state"])
        return opened, state

    def alertmanager_incidents(self) -> Counter[str]:
        """The same, by what Alertmanager said, group by group."""
        opened: Counter[str] = Counter()
        state: dict[str, str] = {}
        for told in self.taken:
            if key := told["groupLabels"].get("alert_key"):  # the watchdog has none
                _count(opened, state, key, told["status"])
        return opened

    def statuses(self) -> list[str]:
        """What Alertmanager said, without its watchdog."""
        return [told["status"] for told in self.taken if "alert_key" in told["groupLabels"]]

    def disordered(self) -> list[str]:
        """Alert keys of which an older state came after a newer one."""
        told = [msgspec.json.decode(body)["data"] for _, _, body in self.got]
        newest: dict[str, int] = {}
        found = []
        for each in told:
            if each["revision"] < newest.get(each["key"], 0):
                found.append(each["key"])
            newest[each["key"]] = each["revision"]
        return found


def _count(opened: Counter[str], state: dict[str, str], key: str, now: str) -> None:
    if now == "firing" and state.get(key) != "firing":
        opened[key] += 1
    state[key] = now


@asynccontextmanager
async def http_receiver() -> AsyncIterator[Receiver]:
    """A receiver at an address of its own."""
    receiver = Receiver()
    await receiver.listen()
    yield receiver
    await receiver.leave()


class Mailbox:
    """An SMTP server on a port of its own; `refuse` answers with this code instead of taking."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.refuse = ""
        self.controller = Controller(self, hostname="127.0.0.1", port=free_port())

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        """One mail."""
        if self.refuse:
            return self.refuse
        self.mails.append(message_from_bytes(envelope.content))
        return "250 taken"


ROUTES = """
route:
  receiver: people
  group_by: [alertname, alert_key]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: people
    webhook_configs: [{{url: "{url}", send_resolved: true}}]
"""


class AlertmanagerServer:
    """Alertmanager as Debian ships it, which tells a receiver."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        (folder / "alertmanager.yml").write_text(ROUTES.format(url=receiver.url))
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Starts it and waits until it answers."""
        self._process = self._run()
        await until(self._answers, "Alertmanager does not answer")

    def _run(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [
                program("alertmanager"),
                f"--config.file={self._folder}/alertmanager.yml",
                f"--storage.path={self._folder}/data",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--cluster.listen-address=",
                "--log.level=error",
            ]
        )

    def kill(self) -> None:
        """SIGKILL: it forgets its alerts."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def active(self) -> dict[str, str]:
        """Alert key to severity, of what is active."""
        alerts = await self._get("/api/v2/alerts?active=true")
        return {each["labels"].get("alert_key", "watchdog"): each["labels"]["severity"] for each in alerts}

    async def _answers(self) -> bool:
        try:
            await self._get("/api/v2/status")
        except aiohttp.ClientError:
            return False
        return True

    async def _get(self, path: str) -> Any:
        async with aiohttp.ClientSession() as http, http.get(self.url + path) as answer:
            return await answer.json()


async def soon(holds: Callable[[], bool], otherwise: str) -> None:
    """Waits until a condition holds. TimeoutError after two minutes."""

    async def asked() -> bool:
        return holds()

    await until(asked, otherwise)
