-- Alertmanager knows an alert by its labels: what had another severity is another alert there, which has to be ended.
alter table ops.alert add column severity_changed_at timestamptz;
comment on column ops.alert.severity_changed_at is 'When it last stopped being of the other severity; null = it never was.';

create function ops.note_severity() returns trigger language plpgsql as $$
begin
  new.severity_changed_at := now();
  return new;
end $$;
create trigger severity_changed before update on ops.alert
for each row when (new.severity <> old.severity) execute function ops.note_severity();
update ops.alert set severity_changed_at = changed_at where change in ('raised', 'lowered');
