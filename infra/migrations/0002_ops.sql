-- How the product runs: versions, parked journeys, what is waiting to be sent.
create schema if not exists ops;

create table ops.version (
  version_no   integer primary key,
  schema_name  text not null unique,
  label        text not null,
  status       text not null check (status in ('building', 'fed', 'promoted', 'retired')),
  code_version text not null,
  timeline     jsonb not null,
  created_at   timestamptz not null default now(),
  promoted_at  timestamptz
);
create unique index one_promoted on ops.version (status) where status = 'promoted';
comment on table ops.version is 'Projection versions: a definition timeline and the code that folds it.';
comment on column ops.version.timeline is 'Entries {valid_from: microseconds or null, body: the YAML}, earliest first.';

create table ops.parked (
  version_no integer not null references ops.version,
  journey_id text collate "C" not null,
  error      text not null,
  detail     text not null,
  attempts   integer not null default 1,
  parked_at  timestamptz not null default now(),
  tried_at   timestamptz not null default now(),
  primary key (version_no, journey_id)
);
comment on table ops.parked is 'Journeys whose fold raised: a defect in the code. Their rows stay as they were.';

create table ops.outbox (
  outbox_id  bigint generated always as identity primary key,
  topic      text not null,
  message_id text not null unique,
  key        bytea,
  value      bytea,
  headers    jsonb not null,
  created_at timestamptz not null default now()
);
comment on table ops.outbox is 'Messages written with the rows that caused them, deleted once the broker has them.';
