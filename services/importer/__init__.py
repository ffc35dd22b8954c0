"""CSV exports to events, by a mapping file.

`mapping` reads the mapping language and reports every fault of the file at once, `fields` what its fields are
made of; `values` turns cells into values of the contract; `tables` reads CSV and looks up joined rows;
`events` makes the events of a row or says what is wrong with it; `rows` runs over the files. The language is
explained in infra/mappings/README.md. Leaves checking of events to `schemas.contract` and sending to
`services.publisher`.
"""
