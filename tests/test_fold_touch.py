"""Tables of single events: touches, exposures, meetings, requests for material, attributes."""

from schemas import records as r
from tests.given import attribute, envelope, erased, exposed, given, linked, retracted, touch


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


def met(when: str, **fields: object) -> r.MeetingHeld:
    known = {"meeting_id": "m1", "kind": "demo", **fields}
    return r.MeetingHeld(**envelope("met", when, known))


def test_a_meeting_shows_whether_it_was_written_down_and_not_by_whom() -> None:
    """An erasure changes nothing of it: what was said and who was there is no part of the row."""
    spec = given(
        touch("mon 09:00"), met("mon 10:00", summary="Wants two.", attendees=["Ann"]), met("mon 11:00")
    )
    expected = ({"has_summary": True, "outcome": None}, {"has_summary": False, "outcome": None})
    spec.then("meeting", *expected)
    spec.when(erased("mon 12:00")).then("meeting", *expected)


def test_requests_and_deliveries_stand_in_one_table() -> None:
    """Either has a row of its own; the view brings them together."""
    fields = {"request_id": "r1", "topic": "security", "note": "please"}
    asked = r.ContentRequested(**envelope("asked", "mon 09:00", dict(fields)))
    sent = r.ContentDelivered(**envelope("sent", "mon 10:00", fields | {"content_id": "paper"}))
    given(asked, sent).then(
        "content_event",
        {"event_id": "asked mon 09:00", "is_delivery": False, "content_id": None},
        {"event_id": "sent mon 10:00", "is_delivery": True, "content_id": "paper"},
    )


def test_attributes_are_shown_as_text_and_personal_ones_not_at_all() -> None:
    """Numbers as numbers too; null says that it is no longer known."""
    given(
        attribute("mon 09:00", "country", "DE"),
        attribute("mon 09:01", "size", 12.0),
        attribute("mon 09:02", "size", 0.5),
        attribute("mon 09:03", "competitor", True),
        attribute("mon 09:04", "country", None),
        attribute("mon 09:05", "email", "ann@x.example"),
    ).then(
        "attribute_change",
        {"name": "country", "value": "DE", "number_value": None},
        {"name": "size", "value": "12", "number_value": 12.0},
        {"name": "size", "value": "0.5", "number_value": 0.5},
        {"name": "competitor", "value": "true", "number_value": None},
        {"name": "country", "value": None, "number_value": None},
    )
