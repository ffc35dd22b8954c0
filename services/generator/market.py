"""What every lead sees: channels, offers, campaigns with their calendar, companies, people.

Promises: the campaign of a week is a function of the week alone, so nothing has to be remembered.
"""

from typing import NamedTuple

from schemas.records import Micros
from services.generator.chance import DAY, WEEK

COUNTRIES = ("DE", "DE", "DE", "DE", "AT", "AT", "CH", "FR", "NL", "US")
CURRENCY_OF = {"DE": "EUR", "AT": "EUR", "FR": "EUR", "NL": "EUR", "CH": "CHF", "US": "USD"}
OTHER_CURRENCY = {"EUR": "USD", "CHF": "EUR", "USD": "JPY", "JPY": "EUR"}
INDUSTRIES = ("machinery", "retail", "software", "logistics", "health", "education")
COMPANY_SIZES = (1, 4, 12, 35, 60, 120, 250, 900, 4000)
FIRST_NAMES = ("Anna", "Ben", "Chloé", "Deniz", "Elif", "Finn", "Greta", "Håkon", "Ines", "Jürgen")
LAST_NAMES = ("Abel", "Brandt", "Çelik", "Dubois", "Egger", "Fischer", "García", "Huber", "Ito", "Jansen")
TITLES = ("Head of Operations", "CTO", "Buyer", "Student", "Managing Director", "Analyst")
OWNERS = tuple(f"rep-{number:02d}" for number in range(1, 25))
TEAMS = ("team-north", "team-south", "team-west")
REJECTIONS = (
    "bad_contact_data",
    "duplicate",
    "competitor",
    "student",
    "no_need",
    "no_need",
    "no_budget",
    "no_budget",
    "no_authority",
    "bad_timing",
    "bad_timing",
    "wrong_territory",
    "already_customer",
    "already_engaged",
    "other",
)
FOR_EVER = ("competitor", "student", "duplicate", "already_customer")
"""Reasons after which a lead does not come back."""
LOSSES = ("price", "no_decision", "feature_missing", "competitor", "budget_cut")
RIVALS = ("Leadfoot", "Funnelwise", "CRMatic")
TOPICS = ("roi_calculator", "security_whitepaper", "reference_call", "integration_guide", "price_sheet")
HOLIDAYS = (
    "2024-01-01",
    "2024-03-29",
    "2024-04-01",
    "2024-05-01",
    "2024-12-25",
    "2025-01-01",
    "2025-04-18",
    "2025-04-21",
    "2025-05-01",
    "2025-12-25",
    "2026-01-01",
    "2026-04-03",
    "2026-04-06",
    "2026-05-01",
    "2026-12-25",
)
OFFICE_WEEK = {
    "mon": [["09:00", "17:00"]],
    "tue": [["09:00", "17:00"]],
    "wed": [["09:00", "17:00"]],
    "thu": [["09:00", "17:00"]],
    "fri": [["09:00", "15:30"]],
}


class Source(NamedTuple):
    """A way in: channel as sent, utm parameters, and whether it is the work of a campaign."""

    channel: str
    utm_source: str | None
    utm_medium: str | None
    campaign: bool


SOURCES = (
    Source("organic_search", "google", "organic", False),
    Source("organic_search", "google", "organic", False),
    Source("organic_search", "bing", "organic", False),
    Source("paid_search", "google", "cpc", True),
    Source("paid_search", "google", "cpc", True),
    Source("paid_social", "linkedin", "paid", True),
    Source("direct", None, None, False),
    Source("direct", None, None, False),
    Source("referral", "partner.example", "referral", False),
    Source("newsletter", "newsletter", "email", True),
)

OFFERS = (
    "whitepaper_onboarding",
    "webinar_pipeline",
    "demo_request",
    "trial_14d",
    "checklist_handoff",
    "benchmark_report",
)
CAMPAIGN_CHANNELS = ("paid_search", "paid_social", "email", "webinar")
CAMPAIGN_LENGTH: Micros = 4 * WEEK
ANNOUNCED: Micros = 2 * WEEK
"""A campaign is scheduled this long before it starts."""


class Campaign(NamedTuple):
    """The campaign that starts in one week."""

    campaign_id: str
    name: str
    channel: str
    offer_id: str
    starts_at: Micros
    ends_at: Micros


def campaign(week: int) -> Campaign:
    """The campaign of the week with this number since 1970."""
    channel = CAMPAIGN_CHANNELS[week % len(CAMPAIGN_CHANNELS)]
    offer = OFFERS[week * 5 % len(OFFERS)]
    starts = week * WEEK + 4 * DAY
    name = f"{offer.replace('_', ' ').capitalize()} by {channel.replace('_', ' ')}"
    return Campaign(f"cmp-{week}-{channel}", name, channel, offer, starts, starts + CAMPAIGN_LENGTH)


def running_campaign(moment: Micros, draw: float) -> Campaign:
    """One of the campaigns that run at this moment; `draw` in [0, 1) says which."""
    newest = (moment - 4 * DAY) // WEEK
    return campaign(newest - int(draw * (CAMPAIGN_LENGTH // WEEK)))
