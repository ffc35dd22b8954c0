-- Keys of the HTTP door.
create table ops.api_key (
  key_id       text primary key,
  key_hash     bytea not null unique,
  source       text check (source <> ''),
  records      text[] not null check (cardinality(records) > 0),
  may_import   boolean not null default false,
  created_at   timestamptz not null default now(),
  valid_until  timestamptz,
  last_used_at timestamptz
);
comment on table ops.api_key is 'Who may send what to the HTTP door. The keys themselves are kept nowhere.';
comment on column ops.api_key.key_id is 'Names the key without giving it away: the first digits of its hash.';
comment on column ops.api_key.key_hash is 'SHA-256 of the key, which is random enough to need no slower hash.';
comment on column ops.api_key.source is 'The only `source` that its events may have; null = any.';
comment on column ops.api_key.records is 'Names of the records that it may send.';
comment on column ops.api_key.may_import is 'Whether its events may bring a `recorded_at` of their own.';
comment on column ops.api_key.valid_until is 'When it ended or will end, by rotation or revocation; null = it stays.';
comment on column ops.api_key.last_used_at is 'When an event was last sent with it, to the minute.';
