"""One lead's life, told in order as it really happened.

Promises: a story is a list of events with true times, each with the kinds it belongs to. When and how they
reach the log, and what goes wrong on the way, is left to `mishaps`.
"""

from typing import Any

from schemas.instants import iso_date
from schemas.records import Micros
from services.generator import market
from services.generator.chance import DAY, HOUR, MINUTE, SECOND, Chance, at_work, awake
from services.generator.kinds import BIT, Shares

Body = dict[str, Any]
"""An event as the contract's JSON object, instants still microseconds."""

SALES, MARKETING, WEBSITE = "crm", "marketing_automation", "website"
HOMEPAGE = "https://www.example.com"
MOST_TOUCHES = 400
"""A crawler's visits end somewhere."""


class Event:
    """An event on its way: its content, the kinds it belongs to, and when it reaches the log."""

    __slots__ = ("arrival", "body", "kinds")

    def __init__(self, body: Body, kinds: int = 0, arrival: Micros = 0) -> None:
        self.body = body
        self.kinds = kinds
        self.arrival = arrival


class Story:
    """A lead while its life is told: where we are in time, under which subject id, and what has happened."""

    def __init__(self, number: int, start: Micros, chance: Chance, shares: Shares, tag: str = "") -> None:
        self.number, self.now, self.chance, self.shares = number, start, chance, shares
        self.tag = f"{number:x}{tag}"
        self.events: list[Event] = []
        self.subject = f"web:{chance.token()}{self.tag}"
        self.subjects = [self.subject]
        self.links: list[Event] = []
        self.country = chance.pick(market.COUNTRIES)
        self.currency = market.CURRENCY_OF[self.country]
        self.source = chance.pick(market.SOURCES)
        self.owner = {"kind": "human", "id": chance.pick(market.OWNERS)}
        self.deals = 0

    def tell(self, record: str, source: str, kind: str = "", /, **fields: Any) -> Event:
        """One more event, now, under the present subject id."""
        body: Body = {
            "record": record,
            "event_id": self.new_id(),
            "subject_id": self.subject,
            "occurred_at": self.now,
            "recorded_at": 0,
            "source": source,
        }
        if source == SALES and self.chance.yes(0.5):
            body["source_sequence"] = self.number * 1000 + len(self.events)
        body.update(fields)
        event = Event(body, BIT[kind] if kind else 0)
        self.events.append(event)
        return event

    def new_id(self) -> str:
        """An event id nobody else gives: a random part in front, so that ids do not sort by time."""
        return f"{self.chance.token()}-{self.tag}-{len(self.events):x}"

    def pass_time(self, longest: Micros) -> None:
        """Some of this time goes by, people being awake when it has."""
        self.now = awake(self.now + self.chance.soon(longest), self.chance)

    def work_time(self, longest: Micros) -> None:
        """Some of this time goes by, and it is office hours again."""
        self.now = at_work(self.now + self.chance.soon(longest), self.chance)


def tell(number: int, start: Micros, chance: Chance, shares: Shares) -> list[Story]:
    """The lives that begin with this lead: its own and those of further contacts of its deals."""
    story = Story(number, start, chance, shares)
    look_around(story)
    if not chance.yes(0.8):
        return [story]
    become_known(story)
    follow_up(story)
    if not chance.yes(0.7):
        return [story]
    qualify(story)
    others: list[Story] = []
    if hand_off(story):
        others = sell(story)
    return [story, *others]


def look_around(story: Story) -> None:
    """Anonymous visits to the website."""
    chance, source = story.chance, story.source
    campaign = market.running_campaign(story.now, chance.draw()) if source.campaign else None
    fields: Body = {"channel": source.channel, "direction": "inbound"}
    if source.utm_medium:
        fields["utm"] = {"source": source.utm_source, "medium": source.utm_medium}
    if campaign:
        fields |= {"campaign_id": campaign.campaign_id, "offer_id": campaign.offer_id}
        fields["utm"] = fields["utm"] | {"campaign": campaign.campaign_id}
        story.tell("TouchRecorded", WEBSITE, touch_type="ad_clicked", **fields)
    for page in range(min(MOST_TOUCHES, 1 + int(1 / (1.002 - chance.draw()) ** 0.7))):
        story.now += SECOND + chance.soon(20 * MINUTE if chance.yes(0.7) else 9 * DAY)
        story.tell(
            "TouchRecorded",
            WEBSITE,
            touch_type="page_view",
            url=f"{HOMEPAGE}/page-{page}?v={story.number}",
            **fields,
        )


def become_known(story: Story) -> None:
    """A form is filled: the CRM knows a person, and often the cookie is linked to it."""
    chance = story.chance
    story.pass_time(5 * DAY)
    offer = chance.pick(market.OFFERS)
    campaign = market.running_campaign(story.now, chance.draw())
    story.tell(
        "TouchRecorded",
        WEBSITE,
        touch_type="form_submitted",
        direction="inbound",
        channel=story.source.channel,
        offer_id=offer,
        content_id=f"landing-{offer}",
        campaign_id=campaign.campaign_id if campaign.offer_id == offer else None,
        properties={"form": offer, "visitor": story.subject},
    )
    person = f"crm:00Q{chance.token()}{story.number:x}"
    story.now += chance.soon(2 * MINUTE)
    link(story, person, "identified")
    story.subject = person
    describe(story)


def link(story: Story, other: str, evidence: str) -> None:
    """Link the present subject to another id, in the share of journeys asked for."""
    if story.chance.yes(story.shares["linked"] / 0.8):
        story.links.append(
            story.tell("SubjectsLinked", SALES, "linked", other_subject_id=other, evidence=evidence)
        )
        story.subjects.append(other)
    else:
        story.subjects = [other]


def describe(story: Story) -> None:
    """What the form and a data supplier say about the person and the company."""
    chance = story.chance
    first, last = chance.pick(market.FIRST_NAMES), chance.pick(market.LAST_NAMES)
    facts: list[tuple[str, Any]] = [
        ("country", story.country),
        ("full_name", f"{first} {last}"),
        ("email", f"{first}.{last}.{story.number}@example.com"),
    ]
    if chance.yes(0.6):
        facts += [
            ("company_size", float(chance.pick(market.COMPANY_SIZES))),
            ("industry", chance.pick(market.INDUSTRIES)),
        ]
    if chance.yes(0.2):
        facts += [("competitor", chance.yes(0.1)), ("title", chance.pick(market.TITLES))]
    for name, value in facts:
        story.tell("AttributeChanged", SALES, name=name, value=value)


def follow_up(story: Story) -> None:
    """Newsletters, downloads, webinars; now and then the CRM finds the same person twice."""
    chance = story.chance
    for _ in range(chance.between(0, 4)):
        story.pass_time(12 * DAY)
        campaign = market.running_campaign(story.now, chance.draw())
        about = {"campaign_id": campaign.campaign_id, "offer_id": campaign.offer_id}
        story.tell("CampaignExposed", MARKETING, exposure_type="delivered", channel="email", **about)
        respond(story, about)
    if chance.yes(0.06):
        twin = f"crm:00Q{chance.token()}{story.number:x}"
        link(story, twin, chance.pick(("merged_in_crm", "same_email", "manual")))


def respond(story: Story, about: Body) -> None:
    """What a person does with a mail: mostly nothing."""
    chance = story.chance
    for touch_type, share in (
        ("email_opened", 0.5),
        ("email_clicked", 0.5),
        ("content_downloaded", 0.4),
        ("event_registered", 0.4),
        ("event_attended", 0.6),
    ):
        if not chance.yes(share):
            return
        story.pass_time(DAY)
        story.tell(
            "TouchRecorded", MARKETING, touch_type=touch_type, direction="inbound", channel="email", **about
        )


def qualify(story: Story) -> None:
    """The lead asks for a demo (a rule makes it an MQL), or the marketing system says that it is one."""
    chance = story.chance
    story.pass_time(20 * DAY)
    if chance.yes(0.6):
        story.tell(
            "TouchRecorded",
            WEBSITE,
            touch_type="form_submitted",
            direction="inbound",
            channel=story.source.channel,
            offer_id="demo_request",
            content_id="landing-demo",
        )
    else:
        story.tell("StageChanged", MARKETING, to_stage="MQL", reason_code="score")
    story.now += chance.soon(10 * MINUTE)
    story.tell("LeadAssigned", SALES, owner_id=story.owner["id"], team_id=chance.pick(market.TEAMS))


def hand_off(story: Story) -> bool:
    """Sales reviews, in time or not; rejected leads come back once or twice. True if accepted."""
    chance = story.chance
    for attempt in range(3):
        review(story)
        if chance.yes(0.15):
            return False
        if chance.yes(0.6):
            accept(story)
            return True
        reason = chance.pick(market.REJECTIONS)
        reject(story, reason)
        if reason in market.FOR_EVER or chance.yes(0.4) or attempt == 2:
            return False
        story.pass_time(90 * DAY)
        respond(story, {"offer_id": chance.pick(market.OFFERS)})
        qualify(story)
        story.events[-1].kinds |= BIT["recycled"]
    return False


def review(story: Story) -> None:
    """First contact, perhaps with the clock paused while the lead cannot be reached."""
    chance = story.chance
    story.work_time(3 * HOUR if chance.yes(0.65) else 6 * DAY)
    if chance.yes(0.4):
        story.tell("StageChanged", SALES, to_stage="SAL", actor=story.owner)
    if chance.yes(story.shares["paused"] / 0.45):
        wait_for_answer(story)
    contact = chance.pick(("call", "email", "chat"))
    story.tell(
        "TouchRecorded", SALES, touch_type=contact, direction="outbound", channel=contact, actor=story.owner
    )
    if chance.yes(0.5):
        meet(story, "discovery")
    story.work_time(5 * HOUR)


def wait_for_answer(story: Story) -> None:
    """A pause, mostly taken back; of all clocks or of one policy."""
    chance = story.chance
    policy = {"policy_id": "handoff_review"} if chance.yes(0.5) else {}
    reason = chance.pick(("waiting_for_lead", "out_of_office"))
    story.tell("ClockPaused", SALES, "paused", reason_code=reason, actor=story.owner, **policy)
    story.work_time(7 * DAY)
    if chance.yes(0.85):
        story.tell("ClockResumed", SALES, reason_code="answered", actor=story.owner, **policy)
        story.now += 5 * MINUTE


def meet(story: Story, kind: str) -> None:
    """A documented meeting; sometimes sales asks marketing for material afterwards."""
    chance = story.chance
    story.work_time(4 * DAY)
    story.tell(
        "MeetingHeld",
        SALES,
        meeting_id=f"meet-{story.new_id()}",
        kind=kind,
        outcome=chance.pick(("next_step", "interested", "no_show")),
        summary=f"Talked about {chance.pick(market.TOPICS).replace('_', ' ')}.",
        attendees=[story.owner["id"], f"{chance.pick(market.FIRST_NAMES)} {chance.pick(market.LAST_NAMES)}"],
        actor=story.owner,
    )
    if chance.yes(0.35):
        ask_for_content(story)


def ask_for_content(story: Story) -> None:
    """Sales needs material for this lead; marketing mostly delivers."""
    chance = story.chance
    request = {
        "request_id": f"req-{story.new_id()}",
        "topic": chance.pick(market.TOPICS),
        "asset_type": "pdf",
    }
    story.work_time(DAY)
    story.tell("ContentRequested", SALES, note="for the next meeting", actor=story.owner, **request)
    if chance.yes(0.8):
        story.work_time(6 * DAY)
        story.tell("ContentDelivered", MARKETING, content_id=f"asset-{request['topic']}", **request)


def accept(story: Story) -> None:
    """Sales agrees."""
    story.tell("HandoffAccepted", SALES, "accepted", actor=story.owner, note="fits our profile")


def reject(story: Story, reason: str) -> None:
    """Sales sends the lead back."""
    chance = story.chance
    back: Body = {
        "return_to": "disqualified" if reason in market.FOR_EVER else chance.pick(("recycled", "nurture"))
    }
    if back["return_to"] == "recycled" and chance.yes(0.6):
        back["recycle_until"] = story.now + chance.between(14, 120) * DAY
    if reason == "other" or chance.yes(0.3):
        back["note"] = "no reply after three calls"
    story.tell("HandoffRejected", SALES, "rejected", reason_code=reason, actor=story.owner, **back)


def sell(story: Story) -> list[Story]:
    """Deals of an accepted lead. Returns the further contacts of its first deal."""
    chance = story.chance
    if not chance.yes(0.85):
        return []
    contacts = []
    if chance.yes(story.shares["shared_deal"] / 0.25):
        contacts = [second_contact(story)]
    deal(story, contacts)
    while chance.yes(0.12):
        story.work_time(60 * DAY)
        deal(story, [])
    return contacts


def second_contact(story: Story) -> Story:
    """Another person of the same company, who is a lead of their own."""
    other = Story(story.number, story.now, story.chance, story.shares, tag="b")
    other.subject = f"crm:003{story.chance.token()}{other.tag}"
    other.subjects = [other.subject]
    other.country, other.currency, other.owner = story.country, story.currency, story.owner
    describe(other)
    return other


def deal(story: Story, contacts: list[Story]) -> None:
    """An opportunity from opening to close, and what comes after."""
    chance = story.chance
    story.deals += 1
    deal_id = f"opp-{story.number:x}-{story.deals}"
    amount = chance.between(900, 90_000) * 100 + chance.pick((0, 0, 0, 1, 99))
    money = {"opportunity_id": deal_id, "amount_minor": amount, "currency": story.currency}
    story.work_time(3 * DAY)
    if chance.yes(0.92):
        account = f"acc-{story.number:x}"
        together(story, contacts, "OpportunityOpened", "", account_id=account, name="Licences", **money)
    negotiate(story, deal_id)
    if chance.yes(0.55):
        together(story, contacts, "OpportunityWon", "won", **money)
    else:
        lose(story, contacts, deal_id)
    after_close(story, contacts, money)


def together(story: Story, contacts: list[Story], record: str, kind: str, **fields: Any) -> None:
    """The same fact for each contact of the deal, as an event of their own."""
    for person in (story, *contacts):
        person.now = story.now
        event = person.tell(record, SALES, kind, actor=story.owner, **fields)
        if contacts:
            event.kinds |= BIT["shared_deal"]


def negotiate(story: Story, deal_id: str) -> None:
    """Meetings and changes of an open deal."""
    chance = story.chance
    while chance.yes(0.55):
        story.work_time(15 * DAY)
        if chance.yes(0.5):
            meet(story, chance.pick(("demo", "negotiation")))
        else:
            change: Body = {
                "sales_stage": chance.pick(("proposal", "negotiation", "legal")),
                "expected_close_on": _date(story.now + 30 * DAY),
            }
            if chance.yes(0.4):
                change |= {"amount_minor": chance.between(900, 90_000) * 100, "currency": story.currency}
            story.tell("OpportunityChanged", SALES, opportunity_id=deal_id, actor=story.owner, **change)
    story.work_time(10 * DAY)


def _date(moment: Micros) -> str:
    return iso_date(moment // DAY)


def lose(story: Story, contacts: list[Story], deal_id: str) -> None:
    """The deal is lost, sometimes to a rival."""
    reason = story.chance.pick(market.LOSSES)
    fields: Body = {"opportunity_id": deal_id, "reason_code": reason}
    if reason == "competitor":
        fields["competitor"] = story.chance.pick(market.RIVALS)
    together(story, contacts, "OpportunityLost", "lost", **fields)


def after_close(story: Story, contacts: list[Story], money: Body) -> None:
    """Closed deals are reopened, won ones refunded, renewed, churned."""
    chance = story.chance
    won = bool(story.events[-1].kinds & BIT["won"])
    if chance.yes(0.18):
        story.work_time(20 * DAY)
        together(
            story,
            contacts,
            "OpportunityReopened",
            "reopened",
            opportunity_id=money["opportunity_id"],
            reason_code="contract_not_signed",
        )
        story.work_time(15 * DAY)
        won = chance.yes(0.6)
        if won:
            together(
                story,
                contacts,
                "OpportunityWon",
                "won",
                **(money | {"amount_minor": money["amount_minor"] * 9 // 10}),
            )
        elif chance.yes(0.7):
            lose(story, contacts, money["opportunity_id"])
    if won:
        be_customer(story, contacts, money)


def be_customer(story: Story, contacts: list[Story], money: Body) -> None:
    """Refunds and upsells, renewal, churn and sometimes a return."""
    chance = story.chance
    while chance.yes(0.3):
        story.work_time(40 * DAY)
        adjust(story, contacts, money)
    gone = {"opportunity_id": money["opportunity_id"], "reason_code": "price"}
    for record, kind, share, fields in (
        ("CustomerRenewed", "renewed", 0.4, money),
        ("CustomerChurned", "churned", 0.25, gone),
        ("CustomerRenewed", "renewed", 0.2, money),
    ):
        if chance.yes(share):
            story.work_time(120 * DAY)
            story.tell(record, SALES, kind, **fields)


def adjust(story: Story, contacts: list[Story], money: Body) -> None:
    """Money given back or added after the win."""
    share = story.chance.pick((-100, -25, -10, 5, 20))
    change = {
        "opportunity_id": money["opportunity_id"],
        "delta_minor": money["amount_minor"] * share // 100,
        "currency": money["currency"],
        "effective_at": story.now - story.chance.soon(5 * DAY),
        "reason_code": "refund" if share < 0 else "upsell",
    }
    together(story, contacts, "RevenueAdjusted", "adjusted", **change)
