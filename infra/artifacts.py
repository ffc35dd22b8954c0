"""The files that Kafka and the registry run from: exactly those of `servers.lock`, fetched once per user.

Promises that what it fetched are the bytes that the lock names. Where Maven Central is, is `jgo`'s knowledge.
Run `python -m infra.artifacts` to write the lock anew after changing a version below.
"""

import fcntl
import hashlib
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import requests
from jgo.maven import Artifact as Resolved
from jgo.maven import MavenContext, PythonResolver

from services.plain_words import plainly

LOCK_FILE = Path(__file__).with_name("servers.lock")
KAFKA_ROOTS = ("org.apache.kafka:kafka_2.13:4.3.1", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4")
REGISTRY = "io.apicurio:apicurio-registry-app:tar.gz:all:3.3.3"

# Four at once: the 46 small jars of Kafka wait for answers, not for bandwidth.
DOWNLOADS_AT_ONCE = 4
# Of silence, not of the whole download: slow lines are fine, dead ones are not.
TIMEOUT_SECONDS = 60

Advance = Callable[[int], None]


class Unavailable(RuntimeError):
    """A file of the lock can be neither found nor fetched, or is not what the lock says."""


class Artifact(NamedTuple):
    """One file on Maven Central."""

    server: str
    group: str
    name: str
    packaging: str
    classifier: str
    version: str
    size_bytes: int
    sha256: str

    @property
    def coordinate(self) -> str:
        """`group:name:packaging[:classifier]:version`, Maven's own notation."""
        parts = (self.group, self.name, self.packaging, self.classifier, self.version)
        return ":".join(part for part in parts if part)

    def path(self, cache: Path) -> Path:
        """Where this file lies under the cache folder: Maven's layout, which is also `jgo`'s."""
        suffix = f"-{self.classifier}" if self.classifier else ""
        folder = cache / "maven" / Path(*self.group.split(".")) / self.name / self.version
        return folder / f"{self.name}-{self.version}{suffix}.{self.packaging}"


def locked(server: str) -> list[Artifact]:
    """The files of one server (`kafka`, `registry`), in the order of the lock."""
    return [artifact for artifact in all_locked() if artifact.server == server]


def all_locked() -> list[Artifact]:
    """Every file that the lock names."""
    lines = LOCK_FILE.read_text().splitlines()
    return [_parse(*line.split()) for line in lines if line and not line.startswith("#")]


def _parse(server: str, coordinate: str, size_bytes: str, sha256: str) -> Artifact:
    group, name, packaging, *classifier, version = coordinate.split(":")
    return Artifact(server, group, name, packaging, "".join(classifier), version, int(size_bytes), sha256)


def missing(cache: Path) -> list[Artifact]:
    """The files of the lock that are not in the cache with their full size."""
    return [artifact for artifact in all_locked() if not _is_whole(artifact, cache)]


def _is_whole(artifact: Artifact, cache: Path) -> bool:
    path = artifact.path(cache)
    return path.exists() and path.stat().st_size == artifact.size_bytes


def altered(cache: Path) -> list[Artifact]:
    """The files in the cache whose SHA-256 is not the one of the lock."""
    return [a for a in all_locked() if a.path(cache).exists() and sha256(a.path(cache)) != a.sha256]


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(artifacts: Sequence[Artifact], cache: Path, advance: Advance) -> None:
    """Download and check `artifacts`; `advance` is told the bytes as they come. Raises Unavailable."""
    context = MavenContext(
        repo_cache=cache / "maven",
        resolver=PythonResolver(progress_callback=lambda _name, _size: _counting(advance)),
        timeout=TIMEOUT_SECONDS,
    )
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        list(pool.map(lambda artifact: _fetch_one(context, artifact, cache), artifacts))


@contextmanager
def _counting(advance: Advance) -> Iterator[Advance]:
    yield advance


def _fetch_one(context: MavenContext, artifact: Artifact, cache: Path) -> None:
    path = artifact.path(cache)
    path.unlink(missing_ok=True)  # what an interrupted download left behind
    component = context.project(artifact.group, artifact.name).at_version(artifact.version)
    try:
        component.artifact(artifact.classifier, artifact.packaging).resolve()
    except (requests.RequestException, RuntimeError) as error:
        path.unlink(missing_ok=True)
        raise Unavailable(
            f"{artifact.coordinate} could not be downloaded from Maven Central: {plainly(_root(error))}. "
            "Is there a network, and does HTTPS_PROXY name its proxy if it needs one?"
        ) from error
    except OSError as error:
        path.unlink(missing_ok=True)
        raise Unavailable(
            f"{artifact.coordinate} could not be stored in {cache}: {error.strerror}. "
            "Make room there, or choose another folder by LEADLOG_CACHE"
        ) from error
    _check(artifact, path)


def _root(error: BaseException) -> BaseException:
    """Where an error began: libraries wrap it several times."""
    cause = error.__cause__ or error.__context__
    return error if cause is None else _root(cause)


def _check(artifact: Artifact, path: Path) -> None:
    found = sha256(path)
    if found != artifact.sha256:
        path.unlink()
        raise Unavailable(
            f"{artifact.coordinate} has SHA-256 {found}, but {LOCK_FILE.name} says {artifact.sha256}. "
            "It was thrown away; try again. If it stays so, something on the way alters files."
        )


def unpacked_registry(cache: Path) -> Path:
    """The folder of the unpacked registry; unpacks it at the first call."""
    (artifact,) = locked("registry")
    folder = cache / f"{artifact.name}-{artifact.version}-{artifact.sha256[:8]}"
    if not folder.exists():
        _check(artifact, artifact.path(cache))
        half = Path(tempfile.mkdtemp(dir=cache, prefix="unpacking-"))
        with tarfile.open(artifact.path(cache)) as archive:
            # Python before 3.11.4 has no filters; the checksum vouches for the archive there.
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
            archive.extractall(half)
        half.chmod(0o755)
        half.rename(folder)
    return folder


@contextmanager
def only_one(cache: Path) -> Iterator[None]:
    """Keep other processes of this user from filling the cache at the same time."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_lock() -> None:
    """Resolve the versions named above and write the lock file."""
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder), timeout=TIMEOUT_SECONDS)
        lines = [_line("kafka", artifact) for artifact in _kafka(context)]
        group, name, packaging, classifier, version = REGISTRY.split(":")
        app = context.project(group, name).at_version(version).artifact(classifier, packaging)
        lines.append(_line("registry", app))
    head = "# server, coordinate, bytes, SHA-256. Written by `python -m infra.artifacts`.\n"
    LOCK_FILE.write_text(head + "\n".join(sorted(lines)) + "\n")


def _kafka(context: MavenContext) -> list[Resolved]:
    roots = [context.create_dependency(coordinate) for coordinate in KAFKA_ROOTS]
    for root in roots:
        # Else jgo applies each root's dependency management to all: log4j's would bring Kafka 3.9's client.
        root.raw = True
    inputs, others = context.resolver.resolve(roots)
    return [dependency.artifact for dependency in (*inputs, *others)]


def _line(server: str, resolved: Resolved) -> str:
    path = resolved.resolve()
    parts = (resolved.groupId, resolved.artifactId, resolved.packaging, resolved.classifier, resolved.version)
    return f"{server} {':'.join(filter(None, parts))} {path.stat().st_size} {sha256(path)}"


if __name__ == "__main__":
    write_lock()
