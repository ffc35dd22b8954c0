"""Tables of single events: touches and exposures, as the definition in force at each shows them."""

from tests.given import exposed, given, linked, retracted, touch


def test_a_touch_is_shown_on_its_channel_and_as_sent() -> None:
    """The channel rules of the definition classify a touch; what was sent stands beside it."""
    given(touch("mon 09:00", channel="newsletter"), touch("mon 10:00", channel="partner")).then(
        "touch",
        {"channel": "email", "channel_sent": "newsletter"},
        {"channel": "partner", "channel_sent": "partner"},
    )


def test_an_exposure_is_no_touch() -> None:
    """Exposures have a table of their own, on a classified channel too."""
    spec = given(exposed("mon 09:00", channel="newsletter"))
    spec.then("campaign_exposure", {"channel": "email"})
    spec.then("touch")


def test_touches_of_all_linked_subjects_are_of_one_journey() -> None:
    """A link moves the touches of both subjects to the journey; the subject of each stays."""
    given(
        touch("mon 09:00", id="w", subject_id="web:1"),
        touch("mon 10:00", id="c"),
        linked("mon 11:00", "web:1"),
    ).then(
        "touch",
        {"journey_id": "crm:1", "event_id": "c", "subject_id": "crm:1"},
        {"journey_id": "crm:1", "event_id": "w", "subject_id": "web:1"},
    )


def test_a_touch_that_was_taken_back_or_is_from_the_future_is_not_shown() -> None:
    """Only touches that count have a row."""
    early = touch("mon 10:00", recorded_at=0)
    given(touch("mon 09:00", id="a"), retracted("mon 09:30", "a"), early).then("touch")
