-- Versions that are fed beside the promoted one come and go; a view cannot name their tables.
create function ops.mql_of_fed_versions()
returns table (version_no integer, label text, journey_id text, began_at timestamptz, mql_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  fed record;
begin
  for fed in
    select version.version_no, version.label, version.schema_name from ops.version where version.status = 'fed'
  loop
    begin
      return query execute format(
        'select $1, $2, journey_id, min(entered_at), '
        'min(entered_at) filter (where stage_role = ''mql'' and not is_inferred) '
        'from %I.stage_visit group by journey_id',
        fed.schema_name
      ) using fed.version_no, fed.label;
    exception when undefined_table then
      null;  -- retired this very moment
    end;
  end loop;
end
$$;
comment on function ops.mql_of_fed_versions is
  'Per journey and version that is fed but not promoted: its first event, and its first entry into MQL that was not only inferred (null = none).';
