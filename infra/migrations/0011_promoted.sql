-- The views of `bi` read the promoted version's tables through these names, so that a switch replaces little.
create schema promoted;
comment on schema promoted is
  'The tables of the promoted version under names that stay: what the views of bi read. A switch of versions replaces these.';
