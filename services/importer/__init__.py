"""CSV exports to events, by a mapping file.

`mapping` reads the mapping language and reports every fault of the file at once; `values` turns cells into
values of the contract; `tables` reads CSV and looks up joined rows; `rows` makes the events of a row and
collects what is wrong with it. The language is explained in infra/mappings/README.md. Leaves checking of
events to `schemas.contract` and sending to `services.publisher`.
"""
