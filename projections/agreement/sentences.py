"""The sentence for each kind of change of a definition.

`{now}` is what it is now instead of what it was, `{words}` what came or went, `{key}` the name of the part
among its like, `{owner}` the stage, policy or calendar that it belongs to.
"""

from typing import NamedTuple


class Sentences(NamedTuple):
    """What is said when a part changed, when it is new, when it is gone, and when it stands elsewhere."""

    changed: str
    new: str = ""
    gone: str = ""
    moved: str = ""


FIRST_COUNTS = "the first line that matches counts"
SENTENCES: dict[str, Sentences] = {
    "definition_id": Sentences("The definition is now {now}"),
    "version": Sentences("It is now version {now}"),
    "rationale": Sentences("The rationale is now: {after}"),
    "calendar": Sentences("Business time in stages is now that of the calendar {now}"),
    "stage": Sentences(
        "The stage {after} of role {key} takes the place of {before} of role {key_before}",
        "There is now a stage {words} of role {key}",
        "The stage {words} of role {key} is gone",
        "The stage {words} now stands in place {place} instead of {place_before}",
    ),
    "stage_name": Sentences("The stage of role {key} is now called {now}"),
    "scoring": Sentences(
        "Scoring: {now}",
        "Scoring has a new line: {words}",
        "Scoring no longer has the line: {words}",
        "Scoring now asks for {key} in line {place} instead of {place_before}; " + FIRST_COUNTS,
    ),
    "reject_reason": Sentences(
        "Sales can now turn a lead down for {now}",
        "Sales can now also turn a lead down for {words}",
        "Sales can no longer turn a lead down for {words}",
    ),
    "hours": Sentences(
        "The calendar {after} takes the place of {before}",
        "There is now a calendar {words}",
        "The calendar {words} is gone",
    ),
    "zone": Sentences("The calendar {owner} is now in the zone {now}"),
    "opening": Sentences("The hours of {owner} on {key} are now {now}"),
    "holiday": Sentences(
        "{owner} is now closed on {now}",
        "{owner} is now closed on {words}, a holiday",
        "{owner} is now open on {words}, no longer a holiday",
    ),
    "policy": Sentences(
        "The SLA policy {after} takes the place of {before}",
        "There is now an SLA policy {words}",
        "The SLA policy {words} is gone",
    ),
    "start": Sentences(
        "{owner} now starts at {now}",
        "{owner} now also starts at {words}",
        "{owner} no longer starts at {words}",
    ),
    "stop": Sentences(
        "{owner} now stops at {now}",
        "{owner} now also stops at {words}",
        "{owner} no longer stops at {words}",
    ),
    "target": Sentences("{owner} is now due after {now}"),
    "time": Sentences("{owner} is now measured in {now}"),
    "warn_at": Sentences("Warnings of {owner}, as shares of its target: now {now}"),
    "max_pause": Sentences("Pauses of {owner} now count {now}"),
    "channel": Sentences(
        "Channels: {now}",
        "Channels have a new line: {words}",
        "Channels no longer have the line: {words}",
        "Channels now ask for {key} in line {place} instead of {place_before}; " + FIRST_COUNTS,
    ),
    "lookback": Sentences("Credit now looks back {now} from a win"),
    "credit_direction": Sentences(
        "Credit now goes to {now} touches",
        "{words} touches can now get credit too",
        "{words} touches no longer get credit",
    ),
    "credit_touch": Sentences(
        "Credit now goes to {now}", "{words} can now get credit too", "{words} no longer gets credit"
    ),
    "exposure": Sentences(
        "Credit now goes to exposures {now}",
        "Exposures {words} can now get credit too",
        "Exposures {words} no longer get credit",
    ),
    "model": Sentences(
        "Credit by {now}",
        "Deals are now also credited by {words}",
        "Deals are no longer credited by {words}",
        "The model {key} is now no. {place} instead of {place_before}",
    ),
    "personal": Sentences(
        "{now} is now personal data", "{words} is now personal data", "{words} is no longer personal data"
    ),
}

RULE_OF_STAGE = Sentences(
    "{owner} now needs {now}",
    "{owner} is now entered by rule: {words}",
    "{owner} is no longer entered by rule",
)
FILTER_OF_POLICY = Sentences(
    "{owner} is now only for leads with {now}",
    "{owner} is now only for leads with {words}",
    "{owner} is now for every lead",
)
NEEDED = {
    ("all", False): Sentences(
        "{owner} now needs {now}", "{owner} now also needs {words}", "{owner} no longer needs {words}"
    ),
    ("any", False): Sentences(
        "{owner} now needs {now}",
        "{owner} can now also be reached by {words}",
        "{owner} can no longer be reached by {words}",
    ),
    ("all", True): Sentences(
        "{owner} now rules out leads with {now}",
        "{owner} now rules out only leads that also have {words}",
        "{owner} now rules out leads even without {words}",
    ),
    ("any", True): Sentences(
        "{owner} now rules out leads with {now}",
        "{owner} now also rules out leads with {words}",
        "{owner} no longer rules out leads with {words}",
    ),
    ("not", True): Sentences("{owner} now rules out leads with {now}"),
    ("not", False): Sentences("{owner} now needs {now}"),
}
"""What encloses a condition, and whether it is negated: for stages and, with `the filter of`, policies."""


SHORT_REST = 2
"""Words after the one that differs which may stand between it and what it was."""


def instead(after: str, before: str) -> str:
    """`60 points instead of 50`, `gives 2 instead of 1 points for 30 days`, `a instead of b`."""
    now, was = after.split(" "), before.split(" ")
    differing = [n for n, (a, b) in enumerate(zip(now, was, strict=False)) if a != b]
    if len(now) != len(was) or len(differing) != 1 or len(now) == 1:
        return f"{after} instead of {before}"
    [place] = differing
    if now[place].endswith(":") or now[place] in ("and", "or"):  # stay with what they name and join
        return f"{after} instead of {before}"
    end = place + 1 if len(now) - place > SHORT_REST + 1 else len(now)
    return " ".join([*now[:end], "instead of", was[place], *now[end:]])
