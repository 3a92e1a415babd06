-- Heals that did not hold, and proofs that never came.

alter table run add column doubt text;                    -- why it is inconclusive
alter table run add column forgets_at real;             -- until when its alert may fire for old reasons
alter table run add column relapsed_at real;            -- when it was known that its heal had not held
create index run_relapsed on run (relapsed_at) where relapsed_at is not null;

alter table breaker add column healed integer;          -- the run whose success it heard of last
alter table breaker add column forgot_failures integer not null default 0;
alter table breaker add column forgot_trips integer not null default 0;
