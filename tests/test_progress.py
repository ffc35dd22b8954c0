"""Guards the rules behind /livez and /readyz, which tell a stuck worker from one that waits or is idle."""

import pytest

from services.projector.progress import Progress

PARTITION = ("lead.events", 3)
PATIENCE = 60.0


@pytest.fixture
def reading() -> Progress:
    """A worker that reads one partition since second 0, with ten records stored and none waiting."""
    progress = Progress()
    progress.assigned({PARTITION: 10}, 0.0)
    progress.enter("reading", 0.0)
    progress.ends({PARTITION: 10}, 0.0)
    return progress


def test_nothing_to_do_is_not_stuck(reading: Progress) -> None:
    """A worker whose topics are silent for hours is well."""
    reading.turned(9_999.0)
    assert reading.stuck(10_000.0, PATIENCE) == []


def test_offsets_that_stand_while_there_is_more_are_stuck(reading: Progress) -> None:
    """Records wait, the loop turns, and nothing is stored for as long as patience lasts."""
    reading.ends({PARTITION: 25}, 100.0)
    reading.turned(159.0)
    assert reading.stuck(59.0, PATIENCE) == []
    assert reading.stuck(160.0, PATIENCE) == [
        "lead.events-3: next offset 10 stored, 25 on the topic, no move for 160 s"
    ]


def test_patience_starts_when_everything_was_last_stored(reading: Progress) -> None:
    """After a long silence the first new record does not find the worker stuck."""
    reading.ends({PARTITION: 10}, 1_000.0)
    reading.ends({PARTITION: 11}, 1_002.0)
    reading.turned(1_002.0)
    assert reading.stuck(1_003.0, PATIENCE) == []


def test_a_backlog_that_shrinks_is_not_stuck(reading: Progress) -> None:
    """Any move of the stored offset renews patience, however much is left."""
    reading.ends({PARTITION: 1_000_000}, 0.0)
    reading.stored({PARTITION: 20}, 59.0)
    reading.turned(100.0)
    assert reading.stuck(100.0, PATIENCE) == []


def test_one_standing_partition_among_moving_ones_is_stuck(reading: Progress) -> None:
    """The client library can stop on one partition alone."""
    reading.assigned({PARTITION: 10, ("lead.events", 4): 0}, 0.0)
    reading.ends({PARTITION: 11, ("lead.events", 4): 900}, 1.0)
    reading.stored({("lead.events", 4): 800}, 70.0)
    reading.turned(70.0)
    assert [reason[:13] for reason in reading.stuck(71.0, PATIENCE)] == ["lead.events-3"]


def test_a_fetch_loop_that_ended_is_stuck(reading: Progress) -> None:
    """Without the ends of the topics too, a loop that no longer comes round is seen."""
    assert reading.stuck(61.0, PATIENCE) == ["the fetch loop has not come round for 61 s"]


def test_a_long_transaction_is_no_standing_loop(reading: Progress) -> None:
    """While a batch is in hand the loop waits for it."""
    reading.batch_since = 0.0
    assert reading.stuck(61.0, PATIENCE) == []


def test_a_topic_that_ends_before_what_is_stored_is_told_and_not_its_end_from_a_moment_ago(
    reading: Progress,
) -> None:
    """A topic deleted and made anew looked like one without lag; a batch stored while Kafka was asked is
    none, nor is one stored before Kafka went away and did not answer."""
    reading.asking()
    reading.stored({PARTITION: 12}, 1.0)
    reading.ends({PARTITION: 10}, 1.0)
    assert reading.not_ready(0) == []
    reading.asking()
    assert reading.not_ready(0) == []
    reading.asking()
    reading.ends({PARTITION: 3}, 2.0)
    (reason,) = reading.not_ready(0)
    assert "lead.events-3 ends at 3, but its records up to 12 were stored" in reason


def test_a_server_that_is_away_excuses_everything(reading: Progress) -> None:
    """A new process could do no better, neither during the outage nor just after it."""
    reading.ends({PARTITION: 25}, 0.0)
    reading.server_away("postgres", "refused", 300.0)
    assert reading.stuck(301.0, PATIENCE) == []
    reading.server_back("postgres")
    assert reading.stuck(330.0, PATIENCE) == []
    assert reading.stuck(361.0, PATIENCE) != []


def test_joining_for_ever_is_stuck() -> None:
    """A group that never gives partitions, while the broker answers, asks for a restart."""
    progress = Progress()
    progress.enter("joining", 0.0)
    assert progress.stuck(61.0, PATIENCE) == ["no partitions given for 61 s"]


def test_a_spare_worker_is_live_and_ready() -> None:
    """More workers than partitions: one that was given none has nothing to be behind with."""
    progress = Progress()
    progress.enter("joining", 0.0)
    progress.keep(set())
    progress.enter("reading", 1.0)
    assert progress.stuck(10_000.0, PATIENCE) == []
    assert progress.not_ready(0) == []


def test_readiness_needs_known_ends_and_little_lag(reading: Progress) -> None:
    """Until Kafka has said how far the topics go, nobody knows that the rows are fresh."""
    assert reading.not_ready(5) == []
    reading.ends({PARTITION: 16}, 1.0)
    assert reading.not_ready(5) == ["6 records are not stored yet, more than 5"]
    reading.assigned({("lead.events", 4): 0}, 2.0)
    assert reading.not_ready(5) == ["the ends of the topics are not known yet"]


def test_stored_offsets_never_go_back(reading: Progress) -> None:
    """A late answer about an older position changes nothing."""
    reading.stored({PARTITION: 9}, 5.0)
    assert reading.readings[PARTITION].stored == 10
