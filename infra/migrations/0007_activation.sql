-- Which activations a switch of versions wrote: a restating one on the log that is not here was never built.
create table ops.activation (
  event_id     text collate "C" primary key,
  version_no   integer not null references ops.version,
  activated_at timestamptz not null default now()
);
comment on table ops.activation is
  'The activations that were written together with a switch of versions, one for each definition of its timeline.';
