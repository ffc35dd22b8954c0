-- Which subjects have company: the others are found, and locked, without a look for it.
alter table log.subject add column is_joined boolean not null default false;
update log.subject set is_joined = true
where journey_id in (select journey_id from log.subject where journey_id <> subject_id);
comment on column log.subject.is_joined is 'The journey has more subjects than this one.';
