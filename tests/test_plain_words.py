"""Guards that people are told in plain words why something failed, and not by the names of classes."""

import socket

import aiohttp
import asyncpg
import pytest
from aiokafka import errors

from services.plain_words import plainly


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TimeoutError(), "no answer in time"),
        (errors.KafkaTimeoutError(), "no answer in time"),
        (errors.KafkaConnectionError("Unable to bootstrap from [('127.0.0.1', 9, None)]"), "no connection"),
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 9)"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (FileNotFoundError(2, "No such file or directory", "x.yaml"), "No such file or directory"),
        (asyncpg.DiskFullError("No space left on device"), "No space left on device"),
        (aiohttp.ServerDisconnectedError(), "Server disconnected"),
        (errors.KafkaError("topic lead.events was not created"), "topic lead.events was not created"),
        (errors.NotEnoughReplicasError(), errors.NotEnoughReplicasError.description),
        (EOFError(), "no answer"),
    ],
)
def test_an_error_is_told_in_plain_words(error: Exception, said: str) -> None:
    """`/readyz`, `leadlog doctor` and a publisher that waits said `KafkaTimeoutError()` or `[Errno 111]`."""
    assert plainly(error) == said
