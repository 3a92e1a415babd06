-- What is in hand, what fires, what is old and whose it is are found without reading the rest.

create index run_in_hand on run (state, strategy, target) where state <> 'finished';
create index run_of_strategy on run (strategy, id);
create index run_with_outcome on run (outcome, id) where outcome is not null;
create index run_healed on run (target, finished_at) where outcome = 'healed';
create index run_last on run (target, finished_at) where state = 'finished' and acted_at is not null;
create index run_lately on run (strategy, acted_at, target) where acted_at is not null;
create index run_finished on run (finished_at, id) where state = 'finished';

create index decision_of_strategy on decision (strategy, id);
create index decision_age on decision (last_at);
create index episode_firing on episode (id) where ends_at is null;
create index episode_age on episode (last_seen) where ends_at is not null;
create index quarantine_age on quarantine (at);
create index breaker_event_age on breaker_event (at);
create index audit_age on audit (at);
create index pause_active on pause (id) where ended is null;

drop index run_target;                                    -- run_last and run_healed take its place,
drop index run_acted;                                     -- run_lately,
drop index run_ended;                                     -- and run_finished
