-- works with schema 1
-- Heals that did not hold, and proofs that never came.

alter table run add column doubt text;                    -- why it is inconclusive
alter table run add column forgets_at double precision;             -- until when its alert may fire for old reasons
alter table run add column relapsed_at double precision;            -- when it was known that its heal had not held
create index run_relapsed on run (relapsed_at) where relapsed_at is not null;

alter table breaker add column healed bigint;          -- the run whose success it heard of last
alter table breaker add column forgot_failures integer not null default 0;
alter table breaker add column forgot_trips integer not null default 0;
