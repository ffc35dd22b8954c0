"""The schema registry, over the Confluent API.

Promises: after `deploy` the registry refuses incompatible schemas and knows every released schema under the
id of the lock file, or it says which ids differ. A registry that is away is told from one that does not know
an id: the first is worth a wait, the second is final. Leaves reading records to `schemas.wire`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from schemas.ids import RELEASED, Released
from services import settings
from services.plain_words import plainly
from services.registry_archive import archive

if TYPE_CHECKING:
    import aiohttp

COMPATIBILITY = "BACKWARD_TRANSITIVE"
SCHEMA_NOT_FOUND, SUBJECT_NOT_FOUND, VERSION_NOT_FOUND = 40403, 40401, 40402
"""`error_code` of a 404 by which the API itself says no; any other 404 is an address without a registry."""
HEADERS = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
_APICURIO = "/apis/ccompat/"


class RegistryAway(ConnectionError):
    """The registry does not answer, or not as a registry does. Try again later."""


class Incompatible(ValueError):
    """The registry refused a schema that does not fit together with the earlier ones."""


class WrongIds(RuntimeError):
    """The registry has other ids than the lock file: records would be read with other schemas."""


class Registry:
    """A client with one HTTP session, to be used in one event loop."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._known: dict[int, str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def schema(self, schema_id: int) -> str | None:
        """The text of a schema, None when the registry knows no such id. Raises RegistryAway."""
        if schema_id not in self._known:
            found = await self._call("GET", f"/schemas/ids/{schema_id}")
            if found is None:
                return None
            self._known[schema_id] = str(found["schema"])
        return self._known[schema_id]

    async def deploy(self) -> None:
        """Make the registry right for this release. Safe to repeat.

        An empty Apicurio is filled with the ids of the lock file, any other registry must have given the same
        ones. Raises RegistryAway, Incompatible, WrongIds.
        """
        await self._call("PUT", "/config", {"compatibility": COMPATIBILITY})
        if _APICURIO in self.url and not await self._call("GET", "/subjects"):
            await self.restore(list(RELEASED.values()))
        await self._compare({key: await self._id_of(release) for key, release in RELEASED.items()})

    async def verify(self) -> None:
        """Compare with the lock file and change nothing. Raises RegistryAway, WrongIds."""
        found = {key: await self._find(release) for key, release in RELEASED.items()}
        await self._compare(found)

    async def answer(self) -> None:
        """Whether it is there, storage included. Raises RegistryAway."""
        await self._call("GET", "/subjects")

    async def restore(self, releases: list[Released]) -> None:
        """Fill an empty Apicurio registry with schemas and their ids. Raises RegistryAway."""
        url = self.url.split(_APICURIO)[0] + "/apis/registry/v3/admin/import"
        await self._send("POST", url, data=archive(releases), headers={"Content-Type": "application/zip"})

    async def register(self, subject: str, text: str) -> int:
        """The id of a schema, a new one if need be. Raises RegistryAway, Incompatible."""
        answer = await self._call("POST", f"/subjects/{subject}/versions", {"schema": text})
        if answer is None:
            raise RegistryAway(f"{self.url} does not take schemas")
        return int(answer["id"])

    async def _id_of(self, release: Released) -> int:
        found = await self._find(release)
        return await self.register(release.subject, release.text) if found is None else found

    async def _find(self, release: Released) -> int | None:
        found = await self._call("POST", f"/subjects/{release.subject}", {"schema": release.text})
        return None if found is None else int(found["id"])

    async def _compare(self, given: Mapping[int, int | None]) -> None:
        wrong = [
            f"{RELEASED[key].subject} version {RELEASED[key].version} is {here}, expected {key}"
            for key, here in given.items()
            if key != here
        ]
        if wrong:
            raise WrongIds(
                f"the schema ids of {self.url} are not those of schemas/ids.lock.json: {'; '.join(wrong)}. "
                "Records on the topics name these ids. Point LEADLOG_REGISTRY_URL at the registry that they "
                "were written with, or at an empty one, which is filled with the ids of the lock file"
            )

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer, None when the registry says that there is no such thing."""
        return await self._send(method, self.url + path, json=body, headers=HEADERS)

    async def _send(self, method: str, url: str, **body: Any) -> Any:
        import aiohttp  # noqa: PLC0415 (takes a sixth of a second, and few commands ask a registry)

        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=settings.REGISTRY_TIMEOUT_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout)
        try:
            async with self._session.request(method, url, **body) as response:
                answer = await response.json(content_type=None) if response.status != 204 else None
                return _judged(response.status, answer, f"{method} {url}")
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            if isinstance(error, RegistryAway | Incompatible):
                raise
            reason = (
                plainly(error) if str(error) else f"no answer within {settings.REGISTRY_TIMEOUT_SECONDS} s"
            )
            raise RegistryAway(f"the schema registry at {self.url} does not answer: {reason}") from error


def _judged(status: int, answer: Any, call: str) -> Any:
    """The answer of a call that went well, None for a clear no. Raises RegistryAway, Incompatible."""
    code = answer.get("error_code") if isinstance(answer, dict) else None
    if status < 300:
        return answer
    if status == 404 and code in (SCHEMA_NOT_FOUND, SUBJECT_NOT_FOUND, VERSION_NOT_FOUND):
        return None
    if status in (409, 422):
        raise Incompatible(f"{call}: {answer}")
    raise RegistryAway(f"no schema registry answers {call}: HTTP {status} {answer}")
