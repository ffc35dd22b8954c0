-- What the topics say, without any definition. Written by the projector only.
create schema log;

create table log.event (
  event_id     text collate "C" primary key,
  status       text,
  subject_id   text collate "C",
  record_name  text,
  occurred_at  timestamptz,
  recorded_at  timestamptz,
  content_hash bytea,
  body         bytea,
  partition    smallint,
  "offset"     bigint
) with (fillfactor = 90, autovacuum_vacuum_insert_scale_factor = 0.5);
create index event_subject on log.event (subject_id);
comment on table log.event is
  'One row for every event id ever named: the copy that counts, or nothing yet when only a retraction or unlink named it.';
comment on column log.event.status is
  'Null = counts. removed = retracted or unlinked; retraction_cycle, not_retractable = faults of the naming event.';
comment on column log.event.body is 'The Kafka value as received; personal values are overwritten after an erasure.';

create table log.event_copy (
  event_id     text collate "C",
  content_hash bytea,
  subject_id   text collate "C" not null,
  record_name  text not null,
  occurred_at  timestamptz not null,
  recorded_at  timestamptz not null,
  body         bytea not null,
  partition    smallint not null,
  "offset"     bigint not null,
  primary key (event_id, content_hash)
);
create index event_copy_subject on log.event_copy (subject_id);
comment on table log.event_copy is 'Copies with other content under an id: conflicts that do not count.';

create table log.naming (
  event_id        text collate "C" primary key,
  target_event_id text collate "C" not null
);
create index naming_target on log.naming (target_event_id);
comment on table log.naming is 'Which event a retraction or unlink names.';

create table log.link (
  event_id   text collate "C" primary key,
  subject_a  text collate "C" not null,
  subject_b  text collate "C" not null,
  in_force   boolean not null
);
create index link_a on log.link (subject_a);
create index link_b on log.link (subject_b);
comment on table log.link is 'Two subjects are one person while the link is in force.';

create table log.subject (
  subject_id text collate "C" primary key,
  journey_id text collate "C" not null,
  revision   bigint not null default 0,
  erased_at  timestamptz
) with (fillfactor = 80);
create index subject_journey on log.subject (journey_id);
comment on table log.subject is
  'One row for every subject, never deleted: the lock of its events. The row whose subject_id is its journey_id stands for the journey.';
comment on column log.subject.revision is 'Counts the changes of the journey named by this subject id.';
comment on column log.subject.erased_at is 'Set when the subject was erased: its personal values are gone.';

create table log.reference (
  event_id    text collate "C" primary key,
  record_name text not null,
  subject_id  text collate "C" not null,
  occurred_at timestamptz not null,
  recorded_at timestamptz not null,
  fact        jsonb not null
);
create index reference_record on log.reference (record_name, subject_id);
comment on table log.reference is 'Facts that are not about one lead: campaigns, definitions, calendars.';

create table log.reference_revision (
  only_row boolean primary key default true check (only_row),
  revision bigint not null
);
insert into log.reference_revision values (true, 0);
comment on table log.reference_revision is 'Counts the reference facts that a fold depends on.';

create table log.position (
  topic       text,
  partition   smallint,
  next_offset bigint not null,
  primary key (topic, partition)
);
comment on table log.position is 'The next offset to read: moves only together with what was read.';

create table log.reject (
  topic       text,
  partition   smallint,
  "offset"    bigint,
  reason      text not null,
  message     text not null,
  key         bytea,
  value       bytea,
  rejected_at timestamptz not null default now(),
  primary key (topic, partition, "offset")
);
comment on table log.reject is 'Records that could not be read or lie in the wrong place, byte for byte.';
