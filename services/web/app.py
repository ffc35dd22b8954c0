"""The page as a web application: which path shows what.

Promises: only reads, each page of one instant; what cannot be shown says why and what to do (400, 404, 503).
It asks nobody who they are: it listens on this machine only unless told otherwise, and then belongs behind
whatever knows the company's people. Leaves numbers to the views of `bi`, the process to
`services.web_server`.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import asyncpg
import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from projections.agreement.standing import TEAMS
from projections.definition import Definition
from projections.history import redact
from services import settings
from services.definitions import now
from services.environment import WrongSetting
from services.lead import Entry, Unknown, read_lead
from services.projector.decoding import Decoding
from services.projector.redaction import personal_names
from services.registry import Registry
from services.settings import Addresses
from services.store.pool import DATA_ERRORS, PASSING, Connection, connect
from services.store.reading import Rows, read_shown
from services.store.versions import NothingPromoted, promoted_version
from services.summary import MODELS, begin_of, end_of, known_models, read_numbers
from services.web import reading
from services.web.filters import FILTERS, path

CONNECTIONS = 4
"""Pages that ask Postgres at once; others wait for their turn."""
KEPT_TIMES = 10
"""An answer stays so many times as long as it took: 3 s with 8,000 leads, half a minute with 85,000."""
STATEMENT_SECONDS = 30
"""As for any reader of BI."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Nothing but this page's own style is loaded, and nothing of it is kept: it shows who the leads are."""
OUTCOMES = ("open", "accepted", "rejected", "bypassed", "withdrawn")
HANDOFF_STATUSES = ("none", *OUTCOMES)
CLOCK_STATES = {
    "met": ["met", "met_logged_late"],
    "met_logged_late": ["met_logged_late"],
    "breached": ["breached"],
    "overdue": ["overdue"],
    "running": ["running", "warned"],
    "paused": ["paused"],
    "cancelled": ["cancelled"],
}
"""What the overview counts together."""
DEAL_STATUSES = ("open", "won", "lost")
SEGMENTS = ("offer", "campaign", "channel")
ORDERS = ("most leads", "best conversion", "fastest")
DAYS = (7, 30, 90, 180, 365)
PAGES_AT_MOST = 1_000
"""Of a list: further down nobody looks, and Postgres would sort for nothing."""
PROBLEMS = {400: "Not understood", 404: "Not found", 405: "Not that way"}
TOLD = (
    *(HTTPException, NothingPromoted, WrongSetting, asyncpg.QueryCanceledError),
    *(asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError),
    *(*DATA_ERRORS, *PASSING, Exception),
)
"""What has a page of its own."""

log = structlog.get_logger(__name__)


class NoSuchLead(HTTPException):
    """No lead has this id; `alike` are ids that begin with it."""

    def __init__(self, some_id: str, alike: list[str]) -> None:
        super().__init__(404, f"No subject, journey or event has the id {some_id!r}.")
        self.alike = alike


Shown = dict[str, Any]
Page = Callable[[Connection, Request], Awaitable[Shown]]
"""What a page shows, by the names of its template."""
Handler = Callable[[Request], Awaitable[Response]]


class Site:
    """What lives as long as the process."""

    def __init__(self, addresses: Addresses) -> None:
        self._dsn = addresses.postgres_dsn
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._registry = Registry(addresses.registry_url)
        self._templates = Environment(
            loader=PackageLoader("services.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(FILTERS)

    async def close(self) -> None:
        """Closes the connections."""
        await self._registry.close()

    def page(self, name: str, read: Page) -> Handler:
        """The handler of a page: reads at one instant, then fills the template of its name."""

        async def handle(request: Request) -> Response:
            async with self._snapshot() as connection:
                basics = await reading.read_basics(connection)
                shown = await read(connection, request)
            return self._response(200, name, basics | shown)

        return handle

    def kept(self, handle: Handler) -> Handler:
        """The handler, whose answers stay ten times as long as they took: whatever is counted for a page that
        everybody looks at, it keeps Postgres busy for a tenth of the time at most."""
        answers: dict[str, tuple[float, Response]] = {}
        counting = asyncio.Lock()

        def known(question: str) -> Response | None:
            until, answer = answers.get(question, (0.0, None))
            return answer if time.monotonic() < until else None

        async def handle_once(request: Request) -> Response:
            question = request.url.query
            if answer := known(question):
                return answer
            async with counting:
                if answer := known(question):
                    return answer
                began = time.monotonic()
                answer = await handle(request)
                ended = time.monotonic()
                for old in [each for each in answers if not known(each)]:
                    del answers[old]
                answers[question] = (ended + KEPT_TIMES * (ended - began), answer)
                return answer

        return handle_once

    async def lead(self, connection: Connection, request: Request) -> Shown:
        """One lead, by any of its ids, without what a definition calls personal."""
        some_id = request.path_params["some_id"]
        try:
            lead = await read_lead(connection, some_id, Decoding(self._registry))
        except Unknown as error:
            alike = await read_shown(connection, reading.SAME_BEGINNING, some_id)
            raise NoSuchLead(some_id, [row["subject_id"] for row in alike]) from error
        personal = await personal_names(connection) | (await _in_force(connection)).personal
        return {
            "lead": lead,
            "timeline": [_without(entry, personal) for entry in lead.timeline],
            "meetings": await read_shown(connection, reading.MEETINGS, lead.journey_id),
            "requests": await read_shown(connection, reading.REQUESTS, lead.journey_id),
            "campaigns": await reading.read_met_campaigns(connection, lead.journey_id),
        }

    async def error(self, request: Request, error: Exception) -> Response:
        """Why there is no page."""
        status, title, why = self._noted(request, error)
        alike = error.alike if isinstance(error, NoSuchLead) else []
        shown = {"title": title, "why": why, "alike": alike, "definition_version": None}
        return self._response(status, "error", shown)

    async def readyz(self, request: Request) -> Response:
        """Whether pages can be shown, by what stands on each; if not, why, in their words."""
        try:
            async with self._snapshot() as connection:
                await reading.read_basics(connection)
        except TOLD as error:
            status, title, why = self._noted(request, error)
            return JSONResponse({"ok": False, "reasons": [f"{title}: {why}"]}, status)
        return JSONResponse({"ok": True, "reasons": []})

    def _noted(self, request: Request, error: Exception) -> tuple[int, str, str]:
        """Status, title and reason; what is not the reader's doing is logged."""
        told = status, _, _ = _told(error)
        if status >= 500:
            log.warning("page_not_shown", path=request.url.path, error=repr(error))
        return told

    def _response(self, status: int, name: str, shown: Mapping[str, Any]) -> Response:
        return HTMLResponse(self._templates.get_template(f"{name}.html").render(shown), status, HEADERS)

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Connection]:
        async with self._turns:
            connection = await connect(self._dsn)
            try:
                await connection.execute(f"set statement_timeout = '{STATEMENT_SECONDS}s'")
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    yield connection
            finally:
                connection.terminate()


def create_app(addresses: Addresses) -> Starlette:
    """The application."""
    site = Site(addresses)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await site.close()

    app = Starlette(
        routes=[
            Route("/", site.kept(site.page("overview", overview))),
            Route("/leads", site.page("leads", leads)),
            Route("/find", find),
            Route("/lead/{some_id:path}", site.page("lead", site.lead)),
            Route("/handoffs", site.page("handoffs", handoffs)),
            Route("/clocks", site.kept(site.page("clocks", clocks))),
            Route("/deals", site.page("deals", deals)),
            Route("/credit", site.kept(site.page("credit", credit))),
            Route("/conversion", site.kept(site.page("conversion", conversion))),
            Route("/campaigns", site.page("campaigns", campaigns)),
            Route("/definition", site.page("definition", definition)),
            Route("/livez", livez),
            Route("/readyz", site.readyz),
            Mount("/static", StaticFiles(packages=[("services.web", "static")])),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=re.split(r"\s*,\s*", settings.WEB_NAMES.strip()))
        ],
        lifespan=lifespan,
        exception_handlers=dict.fromkeys(TOLD, site.error),
    )
    app.router.redirect_slashes = False  # it would lead from a proxy's HTTPS to HTTP
    return app


async def livez(_: Request) -> Response:
    """The process answers."""
    return JSONResponse({"ok": True})


async def overview(connection: Connection, request: Request) -> Shown:
    """All leads on one page."""
    wants_all = _one_of(request, "models", ("some", "all"), "some") == "all"
    since = _date(request)
    begin = await begin_of(connection, since)
    return {
        "summary": await read_numbers(
            connection, await known_models(connection) if wants_all else MODELS, since
        ),
        "rejections": await read_shown(connection, reading.REJECTIONS, begin),
        "months": await read_shown(connection, reading.ACCEPTANCE, begin, reading.MONTHS),
        "months_at_most": reading.MONTHS,
    }


async def leads(connection: Connection, request: Request) -> Shown:
    """Leads, those with the latest events first."""
    stages = await read_shown(connection, reading.STAGES)
    roles = [row["role"] for row in stages]
    wanted = {
        "stage": _one_of(request, "stage", roles, ""),
        "handoff": _one_of(request, "handoff", HANDOFF_STATUSES, ""),
        **_wanted(request, "owner", "offer", "campaign"),
        "reached": _one_of(request, "reached", roles, ""),
    }
    since, page = _date(request), _page_number(request.query_params.get("page", "1"))
    conditions = *wanted.values(), await begin_of(connection, since)
    limit, offset = reading.LEADS_A_PAGE, (page - 1) * reading.LEADS_A_PAGE
    total = await connection.fetchval(reading.HOW_MANY_LEADS, *conditions)
    return {
        "wanted": wanted | _dates(since=since),
        "leads": await read_shown(connection, reading.LEADS, *conditions, limit, offset),
        "total": total,
        "page": page,
        "has_more": total > offset + limit,
        "stages": stages,
        "statuses": HANDOFF_STATUSES,
    }


async def handoffs(connection: Connection, request: Request) -> Shown:
    """What waits for sales: open hand-offs by present owner, those that can still be met first; or those that
    ended in one way, the latest first."""
    outcome = _one_of(request, "outcome", OUTCOMES, "open")
    wanted = {"outcome": outcome} | _wanted(request, "owner", "team", "reason")
    since, until = _date(request), _date(request, "until")
    conditions = *wanted.values(), await begin_of(connection, since), await end_of(connection, until)
    found = await read_shown(connection, reading.HANDOFFS, *conditions, reading.ROWS_AT_MOST)
    return {
        "wanted": wanted | _dates(since=since, until=until),
        "outcomes": OUTCOMES,
        **_listed("handoffs", found),
    }


async def clocks(connection: Connection, request: Request) -> Shown:
    """Service levels: who met them and who did not, and the clocks behind that."""
    policies = [row["policy_id"] for row in await read_shown(connection, reading.POLICIES)]
    wanted = {
        "policy": _one_of(request, "policy", policies, ""),
        **_wanted(request, "owner", "team"),
    }
    since, state = _date(request), _one_of(request, "state", tuple(CLOCK_STATES), "")
    conditions = *wanted.values(), await begin_of(connection, since)
    states = CLOCK_STATES.get(state, [])
    found = await read_shown(connection, reading.CLOCKS, *conditions, states, reading.ROWS_AT_MOST)
    return {
        "wanted": wanted | {"state": state} | _dates(since=since),
        "policies": policies,
        "states": CLOCK_STATES,
        "owners": await read_shown(connection, reading.OWNERS, *conditions, reading.OWNERS_AT_MOST),
        **_listed("clocks", found),
    }


async def deals(connection: Connection, request: Request) -> Shown:
    """Opportunities, each once, those that closed last first."""
    wanted = {
        "status": _one_of(request, "status", DEAL_STATUSES, ""),
        **_wanted(request, "owner", "currency"),
    }
    since = _date(request)
    conditions = *wanted.values(), await begin_of(connection, since)
    found = await read_shown(connection, reading.DEALS, *conditions, reading.ROWS_AT_MOST)
    return {"wanted": wanted | _dates(since=since), "statuses": DEAL_STATUSES, **_listed("deals", found)}


async def credit(connection: Connection, request: Request) -> Shown:
    """What a model gives to the touches of a channel, deal by deal."""
    models = await known_models(connection)
    currencies = [row["currency"] for row in await read_shown(connection, reading.CURRENCIES)]
    wanted = {
        "model": _one_of(request, "model", models, next(iter(models), "")),
        **_wanted(request, "channel"),
        "currency": _one_of(request, "currency", currencies, next(iter(currencies), "")),
    }
    since = _date(request)
    conditions = *wanted.values(), await begin_of(connection, since)
    found = await read_shown(connection, reading.CREDIT, *conditions, reading.ROWS_AT_MOST)
    return {
        "wanted": wanted | _dates(since=since),
        "models": models,
        "currencies": currencies,
        "sum_minor": found[0]["sum_minor"] if found else 0,
        **_listed("credit", found),
    }


async def conversion(connection: Connection, request: Request) -> Shown:
    """Which offers, campaigns and channels bring leads that convert, and how fast."""
    _, *targets = [row for row in await read_shown(connection, reading.STAGES) if row["is_success"]]
    chosen = {
        "by": _one_of(request, "by", SEGMENTS, "offer"),
        "to": _one_of(request, "to", [row["role"] for row in targets], "won"),
        "days": int(_one_of(request, "days", [str(days) for days in DAYS], "90")),
        "order": _one_of(request, "order", ORDERS, ORDERS[0]),
    }
    return {
        "chosen": chosen,
        "segments": SEGMENTS,
        "stages": targets,
        "spans": DAYS,
        "orders": ORDERS,
        "rows": await read_shown(connection, reading.CONVERSION, *chosen.values(), reading.SEGMENTS_AT_MOST),
    }


async def campaigns(connection: Connection, _: Request) -> Shown:
    """Marketing's calendar, with what sales should know."""
    return {"campaigns": await reading.read_campaigns(connection)}


async def definition(connection: Connection, _: Request) -> Shown:
    """What both teams agreed on, and how well it holds."""
    return {
        "teams": TEAMS,
        "stages": await read_shown(connection, reading.STAGES),
        "versions": await reading.read_versions(connection),
        "drift": await read_shown(connection, reading.DRIFT, reading.DRIFT_ROWS),
    }


async def find(request: Request) -> Response:
    """To the lead whose id was typed."""
    some_id = request.query_params.get("id", "").strip()
    return RedirectResponse(f"/lead/{path(some_id)}" if some_id else "/leads", 303)


async def _in_force(connection: Connection) -> Definition:
    return (await promoted_version(connection)).in_force(now())


def _without(entry: Entry, personal: Collection[str]) -> Entry:
    """The entry without personal values."""
    return entry._replace(event=redact(entry.event, personal))


def _wanted(request: Request, *names: str) -> dict[str, str]:
    """What a list is narrowed to; nothing = all."""
    return {name: request.query_params.get(name, "").strip() for name in names}


def _listed(name: str, found: Rows) -> Shown:
    """A list without pages, and how many there are."""
    return {name: found, "total": found[0]["total"] if found else 0}


def _dates(**dates: date | None) -> dict[str, str]:
    return {name: each.isoformat() if each else "" for name, each in dates.items()}


def _date(request: Request, name: str = "since") -> date | None:
    text = request.query_params.get(name)
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise HTTPException(400, f"{text!r} is no date: expected one such as 2026-01-31.") from error


def _page_number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= PAGES_AT_MOST:
        raise HTTPException(400, f"{text!r} is no page: expected a number from 1 to {PAGES_AT_MOST}.")
    return int(text)


def _one_of(request: Request, name: str, allowed: Sequence[str], default: str) -> str:
    given = request.query_params.get(name, "").strip() or default
    if given != default and given not in allowed:
        raise HTTPException(400, f"{name} is {given!r}: expected one of {', '.join(allowed)}.")
    return given


def _told(error: Exception) -> tuple[int, str, str]:
    """Status, title and reason."""
    match error:
        case HTTPException():
            return error.status_code, PROBLEMS.get(error.status_code, "Not shown"), error.detail
        case NothingPromoted():
            why = "No definition is in use yet: `leadlog up` or `leadlog deploy` makes the first."
            return 503, "Nothing to show yet", why
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError():
            why = "No definition is in use yet, or it was built by another release: see `leadlog doctor`."
            return 503, "Nothing to show yet", why
        case asyncpg.QueryCanceledError():
            why = f"Postgres took longer than {STATEMENT_SECONDS} s. A later date to count from takes less."
            return 503, "Too much at once", why
        case WrongSetting():
            return 503, "Postgres lets nobody in", str(error)
        case _ if isinstance(error, DATA_ERRORS):
            return 400, "Not understood", "No lead, owner or offer is named with such a character."
        case _ if isinstance(error, PASSING):
            return 503, "Postgres does not answer", "Try again in a moment; `leadlog status` tells what runs."
    return 500, "A defect of this page", "Nothing is lost: it only reads. `leadlog logs web` has the details."
