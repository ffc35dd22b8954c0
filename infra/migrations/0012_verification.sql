-- Verification: the promoted version built again from the topics and compared, by hand or by `leadlog run verifier`.
alter table ops.version add column is_verification boolean not null default false;
comment on column ops.version.is_verification is
  'Built only to be compared with the promoted one: it gives way to any other build and goes away afterwards.';

create table ops.verification (
  verification_id  bigint generated always as identity primary key,
  version_no       integer not null references ops.version,
  began_at         timestamptz not null,
  finished_at      timestamptz not null default now(),
  journeys         integer not null,
  left_out         integer not null,
  rows_differing   integer not null,
  states_differing integer not null,
  differences      jsonb not null
);
comment on table ops.verification is 'Outcomes: whether what BI read was what the topics say. Equal if nothing differed.';
comment on column ops.verification.version_no is 'The version that was verified: the promoted one.';
comment on column ops.verification.left_out is 'Journeys that moved meanwhile, or were behind or parked, and so were not compared.';
comment on column ops.verification.states_differing is 'Journeys whose folded state differed, with equal rows or not.';
comment on column ops.verification.differences is 'The first of them: {rows, states}, as `leadlog replay verify --show` reads it.';
