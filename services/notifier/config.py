"""The file that says where alerts go: channels, what each takes, links and next steps.

Promises: what was read is complete and typed; a wrong file is refused with the place of its first fault, and
without quoting it: it holds passwords. Examples with comments are in infra/alerts/channels.yaml.
"""

from base64 import b64decode
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

import msgspec
import yaml
from msgspec import Meta, Struct, field

from services.plain_words import plainly

Severity = Literal["warning", "critical"]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]


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
    fallback_after: NotNegative = 120
    give_up_after: NotNegative = 3600
    timeout: Positive = 10
    per_minute: Annotated[int, Meta(ge=1)] = 600
    """Messages at most."""


class Alertmanager(Channel, frozen=True, kw_only=True, tag="alertmanager"):
    """Prometheus Alertmanager, API v2. Active alerts are sent again, since it forgets them on restart."""

    url: str
    resend: Positive = 60
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

    def runbook(self, name: str) -> str:
        """Where this runbook is."""
        return self.runbook_url.format(runbook=name)


def read(path: str) -> Config:
    """The file at this path; without one there are no channels. Raises Faulty."""
    if not path:
        return Config()
    try:
        config = msgspec.convert(yaml.safe_load(Path(path).read_text()), Config)
        _check(config)
    except yaml.MarkedYAMLError as error:
        raise _faulty(path, f"{_place(error)} is no YAML, or quotes are missing there") from None
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise _faulty(path, plainly(error)) from error
    return config


def _faulty(path: str, found: str) -> Faulty:
    return Faulty(f"{path}: {found}; infra/alerts/channels.yaml shows how it is written")


def _place(error: yaml.MarkedYAMLError) -> str:
    """Where it is; what PyYAML says of it quotes the line."""
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}," if mark else "it"


def _check(config: Config) -> None:
    """Raises ValueError for what would fail only when an alert is told."""
    fills = ("lead_url", config.lead, "journey_id"), ("runbook_url", config.runbook, "runbook")
    for name, fill, known in fills:
        try:
            fill("")
        except (LookupError, AttributeError, ValueError) as error:
            raise ValueError(f"{name} cannot be filled in: braces are for {{{known}}} alone") from error
    for name, channel in config.channels.items():
        others = [other for other in config.channels if other != name]
        if channel.fallback is not None and channel.fallback not in others:
            known = ", ".join(others) or "the other channels"
            raise ValueError(f"fallback of {name} is {channel.fallback}, expected one of {known}")
        if isinstance(channel, Webhook):
            _check_secrets(name, channel.secrets)


def _check_secrets(name: str, secrets: list[str]) -> None:
    if not secrets:
        raise ValueError(f"{name} has no secrets, expected at least one `whsec_…`")
    for secret in secrets:
        try:
            known = b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError:
            known = b""
        if not known:
            raise ValueError(f"{name} has a secret that is not `whsec_` and base64")
