"""What errors say to people: those of Python and of the drivers name classes, numbers and arguments."""

import os

from aiokafka.errors import (
    BrokerResponseError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    RequestTimedOutError,
)


def plainly(error: BaseException) -> str:
    """Why something failed, in plain words."""
    match error:
        case TimeoutError() | KafkaTimeoutError() | RequestTimedOutError():
            return "no answer in time"
        case KafkaConnectionError() | NodeNotReadyError():
            return "no connection"
        case BrokerResponseError():
            return str(error.description)
        case KafkaError():
            return ": ".join(map(str, error.args)) or "it failed without a word"
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number)
        case OSError(strerror=str(said)):  # of names that do not resolve, whose numbers are others
            return said
    return str(error) or "no answer"
