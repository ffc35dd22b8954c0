-- What BI may read: the schema `bi`, its reader, and the two views that do not depend on the promoted version.
-- The other views are in infra/bi; they are replaced whenever another version is promoted.
create schema if not exists bi;
comment on schema bi is
  'What reports read: views only. Columns are only ever added. Instants are UTC, money is in minor units.';

create table ops.lag (
  topic        text,
  partition    smallint,
  end_offset   bigint not null,
  measured_at  timestamptz not null,
  caught_up_at timestamptz,
  primary key (topic, partition)
) with (fillfactor = 70);
comment on table ops.lag is 'How far the topics reach, as the projector last saw it. Beside log.position: what is still to be read.';
comment on column ops.lag.end_offset is 'The offset that the next record of the partition will get.';
comment on column ops.lag.caught_up_at is 'The last time when everything on the partition had been read.';

-- Roles belong to the whole server: the reader may be there already, or another database may be making it just now.
do $$
begin
  if not exists (select from pg_roles where rolname = 'bi_reader') then
    create role bi_reader login;
    comment on role bi_reader is 'Reads the views of schema bi, nothing else.';
  end if;
exception when duplicate_object or unique_violation then
  null;
end
$$;

do $$
begin
  execute format('alter role bi_reader in database %I set default_transaction_read_only = on', current_database());
  execute format('alter role bi_reader in database %I set statement_timeout = %L', current_database(), '30s');
  execute format('alter role bi_reader in database %I set search_path = bi', current_database());
  execute format('grant connect on database %I to bi_reader', current_database());
  execute format('revoke temporary on database %I from public', current_database());
end
$$;
revoke create on schema public from public;
grant usage on schema bi to bi_reader;
alter default privileges in schema bi grant select on tables to bi_reader;

create view bi.lead_subject as
select subject_id, journey_id
from log.subject;
comment on view bi.lead_subject is
  'One row per subject id ever seen: the journey (one person) that it belongs to. Find a lead by any of its ids here.';
comment on column bi.lead_subject.subject_id is 'The person as one source knows them, for example crm:00Q42.';
comment on column bi.lead_subject.journey_id is
  'The person: the smallest (by bytes) of all subject ids that links in force join. Key of every other view.';

create view bi.definition as
with promoted as (
  select string_to_array(label, '+') as parts, label
  from ops.version
  where status = 'promoted'
),
fact as (
  select
    record_name,
    fact ->> 'definition_id' as definition_id,
    (fact ->> 'version')::bigint as version,
    fact ->> 'team' as team,
    fact ->> 'rationale' as rationale,
    (fact ->> 'valid_from')::double precision as valid_from_micros,
    occurred_at,
    event_id,
    coalesce(fact #>> '{actor,id}', fact #>> '{actor,kind}', 'system') as actor
  from log.reference
  where record_name in ('DefinitionProposed', 'DefinitionApproved', 'DefinitionActivated')
),
proposed as (
  select distinct on (definition_id, version) definition_id, version, rationale, occurred_at, actor
  from fact
  where record_name = 'DefinitionProposed'
  order by definition_id, version, occurred_at, event_id
),
approved as (
  select distinct on (definition_id, version, team) definition_id, version, team, occurred_at, actor
  from fact
  where record_name = 'DefinitionApproved'
  order by definition_id, version, team, occurred_at, event_id
),
activated as (
  select distinct on (definition_id, version) definition_id, version, valid_from_micros, occurred_at, actor
  from fact
  where record_name = 'DefinitionActivated'
  order by definition_id, version, occurred_at desc, event_id desc
)
select
  proposed.definition_id,
  proposed.version,
  proposed.rationale,
  proposed.occurred_at as proposed_at,
  proposed.actor as proposed_by,
  marketing.occurred_at as marketing_approved_at,
  marketing.actor as marketing_approved_by,
  sales.occurred_at as sales_approved_at,
  sales.actor as sales_approved_by,
  activated.occurred_at as activated_at,
  activated.actor as activated_by,
  timestamptz 'epoch' + activated.valid_from_micros * interval '1 microsecond' as valid_from,
  coalesce(proposed.definition_id || '@' || proposed.version = any (promoted.parts), false) as is_promoted,
  proposed.definition_id || '@' || proposed.version as definition_version
from proposed
left join approved as marketing
  on marketing.definition_id = proposed.definition_id and marketing.version = proposed.version
  and marketing.team = 'marketing'
left join approved as sales
  on sales.definition_id = proposed.definition_id and sales.version = proposed.version and sales.team = 'sales'
left join activated
  on activated.definition_id = proposed.definition_id and activated.version = proposed.version
left join promoted on true;
comment on view bi.definition is
  'One row per version of the definition that was ever proposed: what both teams decided, who and when.';
comment on column bi.definition.definition_id is 'Name of the definition.';
comment on column bi.definition.version is 'Version number of the definition.';
comment on column bi.definition.rationale is 'Why it was proposed, in the words of the proposer.';
comment on column bi.definition.proposed_at is 'Instant (UTC) of the first proposal of this version.';
comment on column bi.definition.proposed_by is 'Who proposed it; without a name the kind of actor (human, system, import).';
comment on column bi.definition.marketing_approved_at is 'Instant (UTC) of marketing''s first approval; null = not approved by marketing.';
comment on column bi.definition.marketing_approved_by is 'Who approved for marketing.';
comment on column bi.definition.sales_approved_at is 'Instant (UTC) of sales'' first approval; null = not approved by sales.';
comment on column bi.definition.sales_approved_by is 'Who approved for sales.';
comment on column bi.definition.activated_at is 'Instant (UTC) of the latest activation; null = never activated.';
comment on column bi.definition.activated_by is 'Who activated it last.';
comment on column bi.definition.valid_from is
  'Instant (UTC) from which the latest activation counts; null = it restates the whole history, or was never activated.';
comment on column bi.definition.is_promoted is 'Whether the numbers in these views are made with it (alone or in a timeline).';
comment on column bi.definition.definition_version is 'Name as in the column of this name elsewhere: <definition_id>@<version>.';
