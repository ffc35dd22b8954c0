"""The file that says where alerts go: channels, what each takes, links and next steps.

Promises: what was read is complete and typed; a wrong file is refused with the place of its first fault.
Examples with comments are in infra/alerts/channels.yaml.
"""

from pathlib import Path
from typing import Literal, get_args
from urllib.parse import quote

import msgspec
import yaml
from msgspec import Struct, field

Severity = Literal["warning", "critical"]
SEVERITIES: tuple[str, ...] = get_args(Severity)


class Faulty(ValueError):
    """The file cannot be used."""


class Takes(Struct, frozen=True, forbid_unknown_fields=True):
    """Which alerts a channel gets. What is not named is not asked for."""

    severity: list[Severity] | None = None
    policy: list[str] | None = None
    team: list[str] | None = None


class Channel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """What every channel has. Durations are seconds."""

    takes: Takes = field(default_factory=Takes)
    is_fallback: bool = False
    """Gets only what another channel could not deliver."""
    fallback: str | None = None
    """The channel that is told as well when this one has failed for `fallback_after`."""
    fallback_after: float = 120
    give_up_after: float = 3600
    timeout: float = 10
    per_minute: int = 600
    """Messages at most."""


class Alertmanager(Channel, frozen=True, kw_only=True, tag="alertmanager"):
    """Prometheus Alertmanager, API v2. Active alerts are sent again, since it forgets them on restart."""

    url: str
    resend: float = 60
    watchdog: bool = True
    """Sends an alert that always fires, so that silence can be noticed."""


class Webhook(Channel, frozen=True, kw_only=True, tag="webhook"):
    """An HTTP address, by Standard Webhooks 1.0. Signed with each secret: two while one is replaced."""

    url: str
    secrets: list[str]


class Smtp(Channel, frozen=True, kw_only=True, tag="smtp"):
    """Mail over an SMTP server."""

    host: str
    sender: str
    recipients: list[str]
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: str | None = None


AnyChannel = Alertmanager | Webhook | Smtp


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    channels: dict[str, AnyChannel] = {}
    lead_url: str = "leadlog lead {journey_id}"
    """How to open a lead; `{journey_id}` is filled in."""
    runbook_url: str = "infra/runbooks/{runbook}.md"
    """Where a runbook is; `{runbook}` is sla-warning, sla-breach or digest."""
    next_steps: dict[str, str] = {}
    """Policy to what ends its clock."""

    def lead(self, journey_id: str) -> str:
        """How to open this lead."""
        is_address = "://" in self.lead_url
        return self.lead_url.format(journey_id=quote(journey_id, safe="") if is_address else journey_id)


def read(path: str) -> Config:
    """The file at this path; without one there are no channels. Raises Faulty."""
    if not path:
        return Config()
    try:
        config = msgspec.convert(yaml.safe_load(Path(path).read_text()), Config)
    except (OSError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise Faulty(f"{path}: {error}; infra/alerts/channels.yaml shows how it is written") from error
    for name, channel in config.channels.items():
        if channel.fallback is not None and channel.fallback not in config.channels:
            known = ", ".join(config.channels)
            raise Faulty(f"{path}: fallback of {name} is {channel.fallback}, expected one of {known}")
        if isinstance(channel, Webhook) and not channel.secrets:
            raise Faulty(f"{path}: {name} has no secrets, expected at least one `whsec_…`")
    return config
