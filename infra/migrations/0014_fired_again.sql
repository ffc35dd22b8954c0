-- What was taken back may be told again.
comment on table ops.fired is
  'Thresholds that were reached and told: due, or the share of a warning. A row goes away when what it told is taken back, so that it may be told again.';
