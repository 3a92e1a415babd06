-- works with schema 5
-- When a counter was first counted, by the database's clock: Prometheus is shown a 0 before.

alter table total add column since double precision not null default 0;
