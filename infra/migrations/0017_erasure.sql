-- Statistics keep values of a column until the table is analysed again: those that an erasure overwrites, too.
-- Naming its type anew drops what they have of a column, and rewrites nothing.
alter table log.event alter column body type bytea;
alter table log.event alter column body set statistics 0;
alter table log.event_copy alter column body type bytea;
alter table log.event_copy alter column body set statistics 0;
alter table log.reject alter column key type bytea, alter column value type bytea, alter column message type text;
alter table log.reject
  alter column key set statistics 0, alter column value set statistics 0, alter column message set statistics 0;
alter table ops.outbox alter column value type bytea;
alter table ops.outbox alter column value set statistics 0;

update log.reject
set key = null, value = null, message = 'what was wrong is forgotten with its subject, which was erased'
from log.subject
where subject.subject_id = reject.subject_id and erased_at is not null;
comment on table log.reject is
  'Records that could not be read or lie in the wrong place, byte for byte; of an erased subject only reason and ids.';
