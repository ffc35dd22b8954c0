-- What was refused can be listed in the order in which it was stored, by its source, and repaired.
alter table log.reject add column reject_no bigint generated always as identity unique;
alter table log.reject add column source text;
alter table log.reject add column event_id text;
alter table log.reject add column subject_id text collate "C";
create index reject_subject on log.reject (subject_id);
comment on table log.reject is
  'Records that could not be read or lie in the wrong place, byte for byte; the value goes when its subject is erased.';
comment on column log.reject.reject_no is
  'Grows in the order of commit: who reads on after the last one seen misses none.';
comment on column log.reject.source is 'Publishing system, as far as the record or its CloudEvents header tells; so are the ids.';

create table ops.repair (
  topic       text,
  partition   smallint,
  "offset"    bigint,
  event_id    text collate "C",
  repaired_at timestamptz not null default now(),
  primary key (topic, partition, "offset", event_id)
);
comment on table ops.repair is 'Which events were published in place of a record that was refused.';
