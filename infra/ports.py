"""Ports of the local servers: the usual ones if they are free, else others; the same after a restart."""

import random
import socket
from collections.abc import Collection, Mapping

HOST = "127.0.0.1"
USUAL: Mapping[str, int] = {
    "postgres": 5432,
    "kafka": 9092,
    "kafka_controller": 9093,
    "registry": 8081,
    "registry_management": 8082,
}
"""Name of each listener and its usual port. Those of the services are beside it."""
SERVED: Mapping[str, int] = {"ingest": 8080, "web": 8088}
BACKGROUND: Mapping[str, int] = {"clock": 6050, "notifier": 6051, "verifier": 6052}
FIRST_WORKER = 6066
# Below the range from which Linux takes the near end of outgoing connections (32768 and up): a client that
# keeps knocking at such a port while its server is down can connect to itself and so keep the server out.
OTHERS = range(20_000, 30_000)


def wishes(workers: int) -> dict[str, int]:
    """The usual ports of the servers, of everything that runs once, and of so many workers."""
    of_workers = {f"worker_{number}": FIRST_WORKER + number - 1 for number in range(1, workers + 1)}
    return {**USUAL, **SERVED, **BACKGROUND, **of_workers}


def is_free(port: int) -> bool:
    """Whether a server could listen on the port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose(
    wishes: Mapping[str, int],
    remembered: Mapping[str, int],
    held: Collection[int],
    promised: Collection[int] = (),
) -> dict[str, int]:
    """A port for every name of `wishes`: the remembered one, else the wished one, else any other.

    It is `held` by the caller's own servers, or free and not `promised` to servers that will listen later.
    """
    chosen: dict[str, int] = {}
    for name, wish in wishes.items():
        usable = [
            port
            for port in (remembered.get(name, wish), wish)
            if port not in chosen.values() and (port in held or (port not in promised and is_free(port)))
        ]
        chosen[name] = usable[0] if usable else _other({*chosen.values(), *promised})
    return chosen


def _other(taken: Collection[int]) -> int:
    candidates = random.sample(OTHERS, len(OTHERS))
    return next(port for port in candidates if port not in taken and is_free(port))
