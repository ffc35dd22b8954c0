-- Lets the refold loop tell new events at the end of a history from a history that became another one.
alter table log.subject add column rewritten_revision bigint not null default 0;
comment on column log.subject.rewritten_revision is
  'The revision at which the history of the journey last changed otherwise than by new events.';
