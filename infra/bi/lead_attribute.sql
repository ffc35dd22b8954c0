create or replace view bi.lead_attribute as
with change as (
  select
    attribute_change.*,
    (value, number_value) is distinct from (lag(value) over said, lag(number_value) over said) as is_new
  from promoted.attribute_change
  window said as (partition by journey_id, name order by changed_at, source_sequence nulls first, event_id)
),
current as (
  select distinct on (journey_id, name) *
  from change
  where is_new
  order by journey_id, name, changed_at desc, source_sequence desc nulls last, event_id desc
)
select
  journey_id,
  name,
  value,
  number_value,
  changed_at as since_at,
  event_id,
  definition_version
from current
where value is not null;

comment on view bi.lead_attribute is
  'One row per journey and attribute that has a value now. Attributes that the definition calls personal are left out.';
comment on column bi.lead_attribute.journey_id is 'The person.';
comment on column bi.lead_attribute.name is 'Name of the attribute as sent, for example country.';
comment on column bi.lead_attribute.value is 'The current value as text; booleans are true and false.';
comment on column bi.lead_attribute.number_value is 'The current value if it was sent as a number; null = it was not.';
comment on column bi.lead_attribute.since_at is 'Instant (UTC) since when it has this value; 12 as a number is another value than 12 as text.';
comment on column bi.lead_attribute.event_id is 'The event that gave it this value.';
comment on column bi.lead_attribute.definition_version is 'Definition(s) that the row is made with.';
