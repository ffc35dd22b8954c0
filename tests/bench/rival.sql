-- The rival of `tests.bench.replay`: a full refresh of the four results by window functions over events that lie
-- typed in one table. Simple semantics: no late corrections, links, pauses, business hours nor faults.
create unlogged table rival.stage_visit as
with moved as (
  select subject_id, event_id, occurred_at, reason_code,
    case record
      when 'StageChanged' then to_stage
      when 'HandoffAccepted' then 'SQL'
      when 'HandoffRejected' then 'Recycled'
      when 'OpportunityOpened' then 'Opportunity'
      when 'OpportunityWon' then 'Customer'
      when 'OpportunityLost' then 'Lost'
      when 'CustomerChurned' then 'Churned'
      when 'TouchRecorded' then
        case
          when touch_type = 'form_submitted' and offer_id = 'demo_request' then 'MQL'
          when sum(case touch_type when 'form_submitted' then 20 when 'page_view' then 1 else 2 end)
            over (partition by subject_id order by occurred_at, event_id) >= 10 then 'Engaged'
          else 'Visitor'
        end
    end as stage
  from rival.event
),
changed as (
  select *, lag(stage) over (partition by subject_id order by occurred_at, event_id) as stage_before
  from moved where stage is not null
)
select subject_id, stage, occurred_at as entered_at, event_id as entered_event_id, reason_code,
  row_number() over visits as visit_no,
  lead(occurred_at) over visits as left_at,
  lead(event_id) over visits as left_event_id,
  lead(stage) over visits as next_stage
from changed
where stage is distinct from stage_before
window visits as (partition by subject_id order by occurred_at, event_id);

create unlogged table rival.sla_clock as
with marked as (
  select visit.subject_id, visit.entered_at as started_at, visit.entered_event_id as started_event_id,
    'handoff_review' as policy_id, visit.entered_at + interval '4 hours' as due_at
  from rival.stage_visit as visit where stage = 'MQL'
  union all
  select subject_id, entered_at, entered_event_id, 'first_contact', entered_at + interval '24 hours'
  from rival.stage_visit where stage = 'MQL'
)
select marked.*,
  row_number() over (partition by marked.subject_id, policy_id order by started_at) as clock_no,
  min(stop.occurred_at) as stopped_at
from marked
left join rival.event as stop
  on stop.subject_id = marked.subject_id and stop.occurred_at >= marked.started_at
  and (
    policy_id = 'handoff_review' and stop.record in ('HandoffAccepted', 'HandoffRejected')
    or policy_id = 'first_contact' and (stop.record = 'MeetingHeld'
      or stop.record = 'TouchRecorded' and stop.direction = 'outbound' and stop.actor_kind = 'human')
  )
group by marked.subject_id, started_at, started_event_id, policy_id, due_at;

create unlogged table rival.credit as
with win as (
  select subject_id, opportunity_id, occurred_at as won_at, amount_minor, currency
  from rival.event where record = 'OpportunityWon'
),
path as (
  select win.*, touch.event_id as touch_event_id, touch.occurred_at as touched_at, touch.channel,
    row_number() over up as position, count(*) over whole as touches,
    power(0.5, extract(epoch from win.won_at - touch.occurred_at) / 604800) as decay,
    sum(power(0.5, extract(epoch from win.won_at - touch.occurred_at) / 604800)) over whole as decays
  from win
  join rival.event as touch
    on touch.subject_id = win.subject_id and touch.record = 'TouchRecorded' and touch.direction = 'inbound'
    and touch.occurred_at <= win.won_at and touch.occurred_at >= win.won_at - interval '365 days'
  window up as (partition by win.subject_id, win.opportunity_id order by touch.occurred_at, touch.event_id),
    whole as (partition by win.subject_id, win.opportunity_id)
)
select subject_id, opportunity_id, touch_event_id, touched_at, channel, currency, won_at,
  (position = 1)::int::double precision as first,
  (position = touches)::int::double precision as last,
  1.0 / touches as linear,
  decay / decays as decay,
  round(amount_minor / touches) as amount_linear
from path;

create unlogged table rival.lead_state as
select event.subject_id, count(*) as event_count, min(occurred_at) as first_event_at,
  max(occurred_at) as last_event_at,
  (array_agg(owner_id order by occurred_at desc) filter (where owner_id is not null))[1] as owner_id,
  min(occurred_at) filter (where record = 'TouchRecorded') as first_touch_at,
  max(occurred_at) filter (where record = 'TouchRecorded') as last_touch_at,
  (array_agg(offer_id order by occurred_at) filter (where offer_id is not null))[1] as first_offer_id,
  count(*) filter (where record = 'OpportunityWon') as won,
  max(visit.stage) as stage
from rival.event
left join rival.stage_visit as visit on visit.subject_id = event.subject_id and visit.left_at is null
group by event.subject_id;
