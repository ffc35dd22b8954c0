"""`leadlog definition`: what both teams agree on, from the file to its date."""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from projections import definition
from projections.agreement.diff import Change, diff
from projections.agreement.standing import TEAMS, Agreement
from projections.definition import Definition, DefinitionFaults
from schemas import faults
from schemas.instants import rfc3339
from schemas.records import Envelope, Micros, Team
from services import definitions, settings
from services.cli import backtest
from services.cli.definition_file import read_file, show_changes
from services.cli.exits import REFUSED, USAGE, ask, end
from services.cli.files import TEXT_FILE
from services.cli.layout import console, section, table
from services.cli.sending import fault_lines
from services.definitions import Desk, Standing, name_of
from services.wording import instant

BY = click.option("--by", metavar="NAME", help="Who decides (default: your user name on this machine).")
JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


@click.group("definition")
def command() -> None:
    """What both teams agree on: check, try, propose, approve it.

    A definition that changes the past takes effect by `leadlog replay`; one that counts from a future date on
    by `schedule`.
    """


@command.command()
@click.argument("file", type=TEXT_FILE)
def validate(file: Path) -> None:
    """Check FILE: all its faults at once, each with its line. Needs no servers."""
    agreed = read_file(file)
    click.echo(
        f"{file} is a definition, {agreed.label}: {len(agreed.stages)} stages, {len(agreed.scoring)} scoring "
        f"lines, {len(agreed.policies)} SLA policies, {len(agreed.attribution.models)} attribution models"
    )


@command.command()
@click.argument("file", type=TEXT_FILE)
@click.option("--rationale", default="", help="Why, if the file does not say it.")
@BY
def propose(file: Path, rationale: str, by: str | None) -> None:
    """Put FILE before both teams, as the version that it says it is."""
    agreed = read_file(file)
    if not (rationale or agreed.rationale):
        end(REFUSED, f"{file} has no `rationale`: say why, there or with --rationale, for those who approve")
    known = decide(lambda desk: desk.propose(agreed, rationale, definitions.person(by)))
    first = known.proposals[0]
    _tell(known, f"{known.label} is proposed by {name_of(first)}: {first.rationale}")


@command.command()
@click.argument("definition_id", metavar="ID")
@click.argument("version", type=int)
@click.option("--as", "team", type=click.Choice(TEAMS), required=True, help="The team that agrees.")
@BY
def approve(definition_id: str, version: int, team: Team, by: str | None) -> None:
    """Agree to VERSION of the definition ID for a team."""
    known = decide(lambda desk: desk.approve(definition_id, version, team, definitions.person(by)))
    _tell(known, f"{known.label} is approved by {team} ({name_of(known.approvals[team])})")


@command.command()
@click.argument("definition_id", metavar="ID")
@click.argument("version", type=int)
@click.option("--from", "day", metavar="DATE", required=True, help="2026-01-31, or with a time.")
@BY
def schedule(definition_id: str, version: int, day: str, by: str | None) -> None:
    """Let VERSION of the definition ID count from a date on. The past stays as it is.

    A date begins at midnight; it and a time are in the zone of the definition's calendar unless there is an
    offset. What was scheduled cannot be taken back, but replaced: schedule the present version for the same
    date.
    """
    known = decide(lambda desk: desk.schedule(definition_id, version, day, definitions.person(by)))
    start = max(known.activations, key=lambda each: each.recorded_at).valid_from
    click.echo(
        f"{known.label} counts from {instant(start)} UTC on; `leadlog wait` tells when all rows know it"
    )


@command.command()
@click.argument("definition_id", metavar="ID")
@click.argument("version", type=int)
@click.option("--yaml", "as_yaml", is_flag=True, help="The file as it was proposed, and nothing else.")
@JSON
def show(definition_id: str, version: int, as_yaml: bool, as_json: bool) -> None:
    """Where VERSION of the definition ID stands.

    Who decided what and why, and what it changes.
    """
    found = ask(definitions.read_standings)
    label = f"{definition_id}@{version}"
    known = next((each for each in found if each.agreement.label == label), None)
    if known is None:
        end(REFUSED, f"there is no {label}: `leadlog definition list` shows what there is")
    if as_json:
        click.echo(json.dumps(_object(known), indent=2))
    elif as_yaml:
        click.echo(_body(known), nl=False)
    else:
        _show(known, found)


@command.command("list")
@JSON
def list_all(as_json: bool) -> None:
    """Every version, and where it stands. `show` says why it was proposed."""
    found = ask(definitions.read_standings)
    if as_json:
        click.echo(json.dumps([_object(each) for each in found], indent=2))
        return
    headings = ("definition", "status", "since", "proposed", "by", *TEAMS)
    table(console(), headings, [_line(each) for each in found])
    for each in found:
        for note in each.notes:
            click.echo(f"{each.agreement.label}: {note}")


@command.command("diff")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@JSON
def show_diff(before: str, after: str, as_json: bool) -> None:
    """What B says that A does not, in the language of the trade.

    A and B are files, or versions on the log such as default@2. Exit 0: they mean the same, 1: they differ,
    2: one of them is not there or is no definition.
    """
    found = diff(*(read_source(source) for source in (before, after)))
    if as_json:
        click.echo(json.dumps([_change(each) for each in found], indent=2))
    else:
        show_changes(console(), found)
    if found:
        raise SystemExit(REFUSED)


def read_source(source: str) -> Definition:
    """The definition in a file, or of a version on the log; without one there is nothing to compare."""
    if Path(source).is_file():
        return read_file(Path(source), USAGE)
    for known in ask(definitions.read_standings):
        if known.agreement.label == source and known.agreement.proposals:
            try:
                return definition.parse(_body(known))
            except DefinitionFaults as found:
                end(USAGE, f"{source} is no definition:\n{found}")
    end(USAGE, f"{source} is neither a file nor a version on the log: `leadlog definition list` shows those")


def _tell(known: Agreement, done: str) -> None:
    """What was done, and what comes next."""
    click.echo(done)
    for team in TEAMS:
        if team not in known.approvals:
            click.echo(f"Next: leadlog definition approve {known.definition_id} {known.version} --as {team}")
    if known.missing:
        return
    found = next(each for each in ask(definitions.read_standings) if each.agreement.label == known.label)
    if found.status in ("in force", "scheduled"):
        click.echo(f"Both teams agree, and it is {found.status}: nothing is left to do")
        return
    click.echo(
        f"Both teams agree. Next: `leadlog replay run`, which shows what {known.label} changes in the "
        "past before anything does; or, to let it count from a date on only, leadlog definition schedule "
        f"{known.definition_id} {known.version} --from DATE"
    )


def _show(known: Standing, others: Sequence[Standing]) -> None:
    agreement, out = known.agreement, console()
    since = f" since {instant(known.since)} UTC" if known.since and known.status == "in force" else ""
    since = since or (f" from {instant(known.since)} UTC on" if known.since else "")
    out.print(f"{agreement.label}: {known.status}{since}", style="bold", markup=False)
    table(out, ("", "at (UTC)", "by", ""), list(_decisions(known)), wrapped=[""])
    for note in known.notes:
        out.print(note, markup=False)
    present = next((each for each in others if each.status == "in force"), None)
    if present is not None and known.status not in ("in force", "refused"):
        section(out, f"What it changes against {present.agreement.label}, which is in force")
        show_changes(out, diff(*map(_proposed, (present, known))))


def _proposed(known: Standing) -> Definition:
    """The definition with the rationale that was given for it, in the file or beside it."""
    first = known.agreement.proposals[0]
    return replace(definition.parse(first.body), rationale=first.rationale)


def _decisions(known: Standing) -> Iterator[tuple[str, str, str, str]]:
    agreement = known.agreement
    for proposal in agreement.proposals[:1]:
        yield "proposed", instant(proposal.recorded_at), name_of(proposal), proposal.rationale
    for team in TEAMS:
        approval = agreement.approvals.get(team)
        when = ("not yet", "") if approval is None else (instant(approval.recorded_at), name_of(approval))
        yield (f"approved by {team}", *when, "")
    for each in agreement.activations:
        start = (
            "for the whole history" if each.valid_from is None else f"from {instant(each.valid_from)} UTC on"
        )
        other = known.replaced.get(each.event_id)
        start += f"; replaced by {other}, which was scheduled later for that date" if other else ""
        yield "activated", instant(each.recorded_at), name_of(each), start


def _line(known: Standing) -> tuple[str, ...]:
    agreement = known.agreement
    proposal = agreement.proposals[0] if agreement.proposals else None
    approvals = [agreement.approvals.get(team) for team in TEAMS]
    return (
        agreement.label,
        known.status,
        instant(known.since),
        instant(proposal.recorded_at) if proposal else "",
        name_of(proposal) if proposal else "",
        *(name_of(each) if each else "not yet" for each in approvals),
    )


def _object(known: Standing) -> dict[str, Any]:
    agreement = known.agreement
    return {
        "definition_id": agreement.definition_id,
        "version": agreement.version,
        "status": known.status,
        "since": _instant(known.since),
        "notes": known.notes,
        "proposed": next(
            ({**_said(each), "rationale": each.rationale} for each in agreement.proposals), None
        ),
        "approved": {team: _said(each) for team, each in agreement.approvals.items()},
        "activated": [
            {
                **_said(each),
                "valid_from": _instant(each.valid_from),
                "replaced_by": known.replaced.get(each.event_id),
            }
            for each in agreement.activations
        ],
    }


def _said(fact: Envelope) -> dict[str, str | None]:
    return {"event_id": fact.event_id, "at": rfc3339(fact.recorded_at), "by": name_of(fact)}


def _change(change: Change) -> dict[str, Any]:
    return change._asdict() | {"affects": sorted(change.affects)}


def _body(known: Standing) -> str:
    return known.agreement.proposals[0].body


def _instant(at: Micros | None) -> str | None:
    return None if at is None else rfc3339(at)


command.add_command(backtest.command)


def decide(act: Callable[[Desk], Awaitable[Agreement]]) -> Agreement:
    """Does something at the desk."""
    try:
        return ask(lambda connection: act(Desk(connection, settings.addresses().kafka_bootstrap)))
    except faults.Refused as refused:
        end(REFUSED, "\n".join(["the fact is refused:", *fault_lines(refused.faults)]))
