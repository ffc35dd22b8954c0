-- Replay: a version built from the topics beside the one that BI reads. Every step is a row, every work unit too.
alter table ops.version drop constraint version_status_check;
alter table ops.version
  add constraint version_status_check check (status in ('building', 'built', 'fed', 'promoted', 'retired')),
  add column is_trial boolean not null default false,
  add column as_known_at timestamptz;
comment on column ops.version.status is
  'building and built: not fed yet. fed: kept up by the projector. promoted: fed, and what BI reads. retired: its tables are gone.';
comment on column ops.version.is_trial is 'Made from a file that both teams have not approved: it can never be promoted.';
comment on column ops.version.as_known_at is 'Made from the records that the log had taken by then: it is never fed. Null = from all.';

create table ops.replay (
  version_no         integer primary key references ops.version,
  reference_revision bigint not null,
  positions          jsonb not null,
  buckets            integer not null,
  id_buckets         integer not null,
  began_at           timestamptz not null default now(),
  built_at           timestamptz,
  caught_up_at       timestamptz
);
comment on table ops.replay is 'How a version is built from the topics: what was read, in how many parts.';
comment on column ops.replay.positions is 'Entries {topic, partition, end_offset}: records before this offset are in the version.';
comment on column ops.replay.reference_revision is 'log.reference_revision at these positions.';
comment on column ops.replay.buckets is 'Number of parts into which journeys are divided.';
comment on column ops.replay.id_buckets is 'Number of parts into which event ids are divided, to find copies.';

create table ops.replay_diff (
  version_no  integer primary key references ops.version,
  against_no  integer not null references ops.version,
  left_out    integer not null,
  began_at    timestamptz not null default now(),
  finished_at timestamptz
);
comment on table ops.replay_diff is 'What the rows in a version''s table `difference` are against.';
comment on column ops.replay_diff.left_out is 'Journeys that were behind or parked in either version, and so are not compared.';

create table ops.replay_unit (
  version_no  integer not null references ops.version,
  phase       text not null,
  unit_no     integer not null,
  detail      jsonb,
  records     bigint not null default 0,
  seconds     double precision,
  peak_bytes  bigint,
  finished_at timestamptz,
  primary key (version_no, phase, unit_no)
);
comment on table ops.replay_unit is 'The work units of a build: what is finished survives a kill, what was at work is done again.';
comment on column ops.replay_unit.phase is 'route, read, ids, settle, fold, index, diff: in this order.';
comment on column ops.replay_unit.peak_bytes is 'Resident memory at most of the process that did it, up to then.';
