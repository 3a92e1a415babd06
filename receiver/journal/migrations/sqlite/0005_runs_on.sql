-- Where the steps of a run are executed: a host or a label of its worker; empty for wherever it is.

alter table run add column runs_on text not null default '';
