"""Alerts as mail.

Promises: the `Message-ID` is the same whenever one state of an alert is sent again; all states of an alert
are one thread.
"""

from email.message import EmailMessage
from urllib.parse import quote

import aiosmtplib

from services.notifier.config import Smtp
from services.notifier.message import ENDS, Message, Owed
from services.notifier.sending import Again, Refused, unanswered

MINUTE = 60
PERMANENT = 500
"""SMTP codes from here on are final (RFC 5321)."""


async def send(channel: Smtp, message: Message) -> None:
    """Sends one mail to all recipients. Raises Again, Refused."""
    try:
        await aiosmtplib.send(
            mail(channel, message),
            hostname=channel.host,
            port=channel.port,
            username=channel.username,
            password=channel.password,
            use_tls=channel.security == "tls",
            start_tls=channel.security == "starttls",
            timeout=channel.timeout,
        )
    except aiosmtplib.SMTPResponseException as error:
        told = f"SMTP {error.code}: {error.message}"
        raise (Refused(told) if error.code >= PERMANENT else Again(told)) from error
    except aiosmtplib.SMTPRecipientsRefused as error:
        codes = [each.code for each in error.recipients]
        told = f"SMTP {codes}: every recipient refused"
        raise (Refused(told) if min(codes) >= PERMANENT else Again(told)) from error
    except (aiosmtplib.SMTPException, TimeoutError, OSError) as error:
        raise unanswered(error, channel.timeout) from error


def mail(channel: Smtp, message: Message) -> EmailMessage:
    """The mail that tells the state of an alert."""
    found = EmailMessage()
    found["From"] = channel.sender
    found["To"] = ", ".join(channel.recipients)
    found["Subject"] = f"[{message.state if not message.is_firing else message.severity}] {message.summary}"
    found["Message-ID"] = f"<{quote(message.id, safe='')}@leadlog>"
    found["References"] = f"<{quote(message.key, safe='')}@leadlog>"
    found["Auto-Submitted"] = "auto-generated"
    found.set_content("\n".join([message.summary, "", *map(_lines, message.obligations), _end(message)]))
    return found


def _lines(owed: Owed) -> str:
    minutes = (owed.late_seconds or 0) // MINUTE
    late = f", late by {minutes} min" if minutes else ""
    lines = [
        f"{owed.policy}: lead {owed.journey_id}, owner {owed.owner or '-'}, team {owed.team or '-'}",
        f"  due {owed.due_at or 'not known while paused'}{late}",
        f"  next: {owed.next_step}" if owed.next_step else f"  {ENDS.get(owed.reason or '', 'over')}",
        f"  see: {owed.lead}",
    ]
    return "\n".join([*lines, ""])


def _end(message: Message) -> str:
    left = message.count - len(message.obligations)
    more = f"{left} more: leadlog alerts list\n" if left else ""
    return f"{more}Runbook: {message.runbook}\nAlert: {message.key}"
