-- Obligations, alerts and their deliveries. Keys are (policy, starting event): no merge, late event or replay changes them.
alter table log.event add column appended_at timestamptz;
alter table log.event_copy add column appended_at timestamptz;
comment on column log.event.appended_at is 'When the broker appended the record (LogAppendTime). No projection row depends on it.';

create table ops.alert (
  alert_id            bigint generated always as identity primary key,
  alert_key           text collate "C" not null unique,
  is_digest           boolean not null,
  policy_id           text collate "C",
  team_id             text collate "C",
  severity            text not null check (severity in ('warning', 'critical')),
  revision            integer not null default 1,
  change              text not null default 'opened',
  opened_at           timestamptz not null default now(),
  changed_at          timestamptz not null default now(),
  closed_at           timestamptz,
  outcome             text check (outcome in ('resolved', 'withdrawn')),
  dispatched_revision integer not null default 0
) with (fillfactor = 70);
create sequence ops.digest_no;
create index alert_pending on ops.alert (alert_id) where dispatched_revision < revision;
create index alert_open on ops.alert (opened_at) where closed_at is null;
comment on table ops.alert is 'What on-call is told: of one obligation, or of many at once (digest). Only the clock opens or raises.';
comment on column ops.alert.alert_key is 'The key that receivers know it by, the same for ever.';
comment on column ops.alert.policy_id is 'Policy and team as of its opening, since receivers route by them; null in a digest.';
comment on column ops.alert.revision is 'Counts its changes. Those up to dispatched_revision have been handed to the channels.';
comment on column ops.alert.change is 'The latest change: opened, raised, lowered, changed, reopened, resolved, withdrawn.';
comment on column ops.alert.outcome is 'resolved: it was true and is over. withdrawn: late evidence shows that it was not.';

create table ops.obligation (
  policy_id           text collate "C",
  started_event_id    text collate "C",
  alert_id            bigint references ops.alert,
  journey_id          text collate "C" not null,
  clock_no            integer not null,
  started_at          timestamptz not null,
  due_at              timestamptz,
  owner_id            text collate "C",
  team_id             text collate "C",
  definition_version  text not null,
  opened_at           timestamptz not null default now(),
  closed_at           timestamptz,
  outcome             text check (outcome in ('resolved', 'withdrawn', 'moved')),
  reason              text,
  ended_by_event_id   text collate "C",
  is_closed_by_switch boolean not null default false,
  primary key (policy_id, started_event_id)
) with (fillfactor = 70);
create index obligation_considered on ops.obligation (policy_id) where closed_at is null or is_closed_by_switch;
create index obligation_alert on ops.obligation (alert_id);
create index obligation_journey on ops.obligation (journey_id) where closed_at is null;
comment on table ops.obligation is 'What sales owes: a clock that reached a warning or was due. Journey and number are shown, never keys.';
comment on column ops.obligation.alert_id is 'Null = opened silently: it was long due when its event came, or when its version was promoted.';
comment on column ops.obligation.is_closed_by_switch is 'Closed because another version was promoted: a rollback opens it again.';
comment on column ops.obligation.reason is 'Why it was closed: met, met_logged_late, stopped_late, moved, erased, not_due, gone; or the starting event it moved to.';

create table ops.fired (
  policy_id        text collate "C",
  started_event_id text collate "C",
  threshold        text collate "C",
  fired_at         timestamptz not null default now(),
  primary key (policy_id, started_event_id, threshold)
);
comment on table ops.fired is 'Thresholds that were reached and told: due, or the share of a warning. A row for each, once for ever.';

create table ops.changed_clock (
  change_id  bigint generated always as identity primary key,
  journey_id text collate "C" not null
);
comment on table ops.changed_clock is 'Journeys of the promoted version with an open clock that was changed to a near or past instant: the clock looks at them.';

create table ops.clock (
  only_row     boolean primary key default true check (only_row),
  fired_until  timestamptz not null,
  silent_until timestamptz not null,
  beat_at      timestamptz
) with (fillfactor = 50);
insert into ops.clock (fired_until, silent_until) values (now(), '-infinity');
comment on table ops.clock is 'How far the clock is.';
comment on column ops.clock.fired_until is 'Every instant up to here has fired, but those that ops.changed_clock tells of.';
comment on column ops.clock.silent_until is 'What was due by then and is unknown opens silently: it came with another promoted version.';

create table ops.delivery (
  alert_id        bigint references ops.alert,
  channel         text,
  wanted_revision integer not null,
  sent_revision   integer not null default 0,
  attempts        integer not null default 0,
  failing_since   timestamptz,
  next_at         timestamptz,
  sent_at         timestamptz,
  gave_up_at      timestamptz,
  fell_back_at    timestamptz,
  error           text,
  primary key (alert_id, channel)
) with (fillfactor = 70);
create index delivery_next on ops.delivery (channel, next_at) where next_at is not null;
comment on table ops.delivery is 'What a channel was told of an alert, and what it is still to be told: always the latest state.';
comment on column ops.delivery.next_at is 'When to send (again); null = nothing to do.';
comment on column ops.delivery.gave_up_at is 'Since when nothing is tried any more: see error. The fallback channel was told.';

create table ops.channel (
  channel      text primary key,
  paused_until timestamptz,
  sent_at      timestamptz,
  failed_at    timestamptz,
  error        text
);
comment on table ops.channel is 'How each channel does. paused_until: it asked to be left alone until then (Retry-After).';

-- The instants that the clock waits for, in the versions that are there already.
do $$
declare version text;
begin
  for version in select schema_name from ops.version join pg_namespace on nspname = schema_name loop
    execute format('create index if not exists sla_clock_due on %I.sla_clock (due_at) where stopped_at is null', version);
    execute format('create index if not exists sla_warning_at on %I.sla_warning (warn_at)', version);
  end loop;
end
$$;
