"""What errors say to people: those of Python and of the drivers name classes, numbers and arguments."""

import os


def plainly(error: BaseException) -> str:
    """Why something failed, in plain words."""
    from aiokafka import errors  # noqa: PLC0415 (takes 50 ms, and most commands end without an error)

    match error:
        case TimeoutError() | errors.KafkaTimeoutError() | errors.RequestTimedOutError():
            return "no answer in time"
        case errors.KafkaConnectionError() | errors.NodeNotReadyError():
            return "no connection"
        case errors.BrokerResponseError():
            return str(error.description)
        case errors.KafkaError():
            return ": ".join(map(str, error.args)) or "it failed without a word"
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number)
        case OSError(strerror=str(said)):  # of names that do not resolve, whose numbers are others
            return said
    return str(error) or "no answer"
