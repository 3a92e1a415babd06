-- Every query that both databases understand, named, with a sentence. Those that they do not are in
-- queries_sqlite.sql and queries_postgres.sql. Parsed by receiver/journal/queries.py.

-- name: give_up
-- Close what has not been said for so long that its end must have been swallowed. What a strategy
-- asks for is closed one by one, when Prometheus has been asked.
update episode set ends_at = case when starts_at > last_seen then starts_at else last_seen end,
    ended_by = 'given_up'
where ends_at is null and last_seen < :before and id not in (select episode from wanted)

-- name: give_up_one
update episode set ends_at = case when starts_at > last_seen then starts_at else last_seen end,
    ended_by = case when cleared_at >= last_seen then 'proven' else 'given_up' end
where id = :id and ends_at is null and last_seen < :before

-- name: conflicts
select * from episode where disputed_at is not null order by id limit :limit

-- name: reopen
-- Open a closed episode again, unless a newer one is open.
update episode set ends_at = null, ended_by = '', disputed_at = null, last_seen = :now
where id = :id and not exists (
    select 1 from episode e where e.fingerprint = episode.fingerprint and e.ends_at is null)

-- name: let_rest
update episode set disputed_at = null where id = :id

-- name: quarantine
insert into quarantine (at, sender, problem, raw) values (:now, :sender, :problem, :raw)

-- name: open_episodes
-- What fires, the longest known first.
select id, fingerprint, starts_at, ends_at, labels, annotations, generator_url, sender,
       vouched_by, vouched_link, first_seen, last_seen, notifications, ended_by, cleared_at
from episode where ends_at is null order by id limit :limit offset :offset

-- name: episode_by_id
select * from episode where id = :id

-- name: firing_after
-- What fires beyond this id, to match it anew after a change of the configuration.
select id, fingerprint, starts_at, ends_at, labels, annotations, generator_url, sender,
       vouched_by, vouched_link, first_seen, last_seen, notifications, ended_by, cleared_at
from episode where ends_at is null and id > :after order by id limit :limit

-- name: wanted_after
-- What these episodes ask for.
select w.strategy, w.target, w.episode from wanted w
where w.episode > :after and w.episode <= :last

-- name: clear
-- Its own expression has proven that it fires no more; the first proof since it was said last.
update episode set cleared_at = :now
where id = :id and (cleared_at is null or cleared_at < last_seen)

-- name: clear_firing
update episode set cleared_at = :now
where fingerprint = :fingerprint and ends_at is null
  and (cleared_at is null or cleared_at < last_seen)

-- name: selected
-- What an episode asked for, open or closed.
select strategy, target from wanted where episode = :episode
union select strategy, target from selected where episode = :episode order by 1, 2

-- name: episodes
-- A page of episodes, newest first, from before an id.
select * from episode where id < :before order by id desc limit :limit

-- name: episodes_of_alert
-- The newest episodes of an alert, open ones too.
select * from (
    select * from episode where fingerprint = :fingerprint and ends_at is null
    union all
    select * from (
        select * from episode where fingerprint = :fingerprint and ends_at is not null
        order by ends_at desc limit :limit) as closed) as e
order by id desc limit :limit

-- name: want
insert into wanted (strategy, target, episode) values (:strategy, :target, :episode)
on conflict do nothing

-- name: asking
-- The alerts that ask for this strategy on this target, the one said last first.
select e.id, e.fingerprint, e.starts_at, e.ends_at, e.labels, e.annotations, e.generator_url,
       e.sender, e.vouched_by, e.vouched_link, e.first_seen, e.last_seen, e.notifications,
       e.ended_by, e.cleared_at
from wanted w join episode e on e.id = w.episode
where w.strategy = :strategy and w.target = :target and e.ends_at is null
order by e.last_seen desc, e.id desc limit :limit

-- name: all_wanted
select distinct strategy, target from wanted

-- name: firing
-- Every alert that a strategy is asked for.
select strategy, target, episode from wanted order by episode, strategy

-- name: unfinished_runs
select strategy, target, id, state from run where state <> 'finished'

-- name: known_targets
-- All that fires, and all that something was done or decided about.
select target from wanted union select target from run union select target from decision

-- name: unfinished_keys
select strategy, target from run where state <> 'finished'

-- name: unfinished_run
select * from run where strategy = :strategy and target = :target and state <> 'finished'

-- name: run_by_id
select * from run where id = :id

-- name: history
-- What other runs did: which one holds the target, how many hold a slot, and how the last ones that
-- acted on the target ended, and when.
select
    (select id from run
     where target = :target and state in ('acting', 'waiting', 'verifying', 'rolling_back')
       and id <> :but) as holder,
    (select reason from run
     where target = :target and state in ('acting', 'waiting', 'verifying', 'rolling_back')
       and id <> :but) as holder_reason,
    (select count(*) from run
     where state <> 'finished' and state in ('acting', 'rolling_back') and id <> :but) as acting,
    (select max(finished_at) from run
     where target = :target and state = 'finished' and acted_at is not null) as last_end,
    (select max(finished_at) from run
     where target = :target and outcome = 'healed') as last_healed,
    (select outcome from run
     where target = :target and state = 'finished' and acted_at is not null
     order by finished_at desc limit 1) as last_outcome,
    (select forgets_at from run
     where strategy = :strategy and target = :target and state = 'finished'
       and acted_at is not null
     order by acted_at desc, id desc limit 1) as forgets_at,
    (select max(at) from audit where action = 'restore') as restored_at

-- name: starts
-- When this strategy began to act on this target, oldest first.
select acted_at from run
where strategy = :strategy and target = :target and acted_at > :since order by acted_at

-- name: open_run
insert into run (strategy, target, state, reason, until, episode, created_at, notified_at,
                 acted_at, config_hash, plan, runs_on)
values (:strategy, :target, :state, :reason, :until, :episode, :now, :notified_at, :acted_at,
        :config_hash, :plan, :runs_on)
returning id

-- name: change_run
-- Write the whole changeable part of a run, if it is still in the state it was read in.
update run set state = :state, outcome = :outcome, cause = :cause, reason = :reason, until = :until,
    acted_at = :acted_at, verify_from = :verify_from, finished_at = :finished_at,
    doubt = :doubt, forgets_at = :forgets_at, config_hash = :config_hash, asked_at = :asked_at, approved_at = :approved_at, plan = :plan,
    runs_on = :runs_on
where id = :id and state = :before

-- name: doubtful
-- How many runs in a row could not be proven, since one was: those only whose doubt counts.
select count(*) from run
where strategy = :strategy and target = :target and doubt in ('unknown', 'old_data')
  and id > coalesce((
    select max(id) from run
    where strategy = :strategy and target = :target and outcome in ('healed', 'ineffective')), 0)

-- name: last_heal
-- The last run that healed, unless that is known not to have held.
select * from (
    select * from run
    where strategy = :strategy and target = :target and outcome = 'healed'
    order by finished_at desc, id desc limit 1) as r
where relapsed_at is null

-- name: put_relapse
update run set relapsed_at = :now where id = :id and relapsed_at is null

-- name: relapses
-- What was healed lately and did not stay so. Materialized here and below, for SQLite would rather
-- read all runs in the order of the groups.
with late as materialized (select strategy, target from run where relapsed_at > :since)
select strategy, target, count(*) from late
group by strategy, target order by count(*) desc, strategy, target

-- name: ask_cancel
update run set cancel = :why where id = :id and state <> 'finished'

-- name: put_step
insert into step (run, phase, position, action, state, started_at, finished_at, attempt, result,
                  error)
values (:run, :phase, :position, :action, :state, :started_at, :finished_at, :attempt, :result,
        :error)
on conflict (run, phase, position) do update set
    state = excluded.state, started_at = excluded.started_at, finished_at = excluded.finished_at,
    attempt = excluded.attempt, result = excluded.result, error = excluded.error

-- name: save_step
update step set saved = :saved where run = :run and phase = 'run' and position = :position

-- name: steps
select * from step where run = :run order by phase desc, started_at, position

-- name: put_observation
insert into observation (run, at, verdict, value, detail)
values (:run, :at, :verdict, :value, :detail)
on conflict (run, at) do update set
    verdict = excluded.verdict, value = excluded.value, detail = excluded.detail

-- name: observations
select at, verdict, value, detail from observation where run = :run order by at

-- name: last_decision
select d.*, coalesce(i.config_hash, '') as config_hash
from decision d left join decision_input i on i.decision = d.id
where d.strategy = :strategy and d.target = :target order by d.id desc limit 1

-- name: firing_for
-- Between which episodes lie those that ask for this strategy on this target.
select
    (select min(episode) from wanted where strategy = :strategy and target = :target) as oldest,
    (select max(episode) from wanted where strategy = :strategy and target = :target) as newest

-- name: repeat_decision
update decision set
    times = times + 1, episode = :episode, last_at = :now, until = :until, detail = :detail,
    answers = :answers
where id = :id

-- name: put_decision
insert into decision (strategy, target, verdict, reason, until, detail, answers, run, episode, at,
                      last_at)
values (:strategy, :target, :verdict, :reason, :until, :detail, :answers, :run, :episode, :now,
        :now)

-- name: repeat_inputs
-- What was known the first time is kept beside what was known the last time.
update decision_input set
    at = :now, first_inputs = coalesce(first_inputs, inputs), inputs = :inputs
where decision = :id

-- name: inputs
select first_inputs, inputs from decision_input where decision = :id

-- name: decision_by_id
select d.*, coalesce(i.config_hash, '') as config_hash
from decision d left join decision_input i on i.decision = d.id
where d.id = :id

-- name: decision_at
-- The one that was in force at a time.
select d.*, coalesce(i.config_hash, '') as config_hash
from decision d left join decision_input i on i.decision = d.id
where d.strategy = :strategy and d.target = :target and d.at <= :at order by d.id desc limit 1

-- name: decisions_of_run
select d.*, coalesce(i.config_hash, '') as config_hash
from decision d left join decision_input i on i.decision = d.id
where d.run = :run order by d.id

-- name: decisions
-- A page of decisions, newest first, from before an id.
select d.*, coalesce(i.config_hash, '') as config_hash
from decision d left join decision_input i on i.decision = d.id
where d.id < :before order by d.id desc limit :limit

-- name: decisions_of_strategy
select d.*, coalesce(i.config_hash, '') as config_hash
from decision d left join decision_input i on i.decision = d.id
where d.strategy = :strategy and d.id < :before order by d.id desc limit :limit

-- name: pending_runs
-- What waits for one thing, oldest first.
select * from run where state = 'pending' and reason = :reason order by id limit :limit

-- name: unhealed
-- The last runs on their targets that acted, are over and have not healed, though an alert that
-- fired then fires on; newest first. Another one may be under way.
select r.* from (
    select distinct w.strategy, w.target, (
        select id from run
        where strategy = w.strategy and target = w.target and state = 'finished'
          and acted_at is not null
        order by acted_at desc, id desc limit 1) as last
    from wanted w) as k
join run r on r.id = k.last
where r.outcome not in ('healed', 'cancelled')
  and exists (
    select 1 from wanted w join episode e on e.id = w.episode
    where w.strategy = r.strategy and w.target = r.target and e.first_seen <= r.finished_at)
order by r.id desc limit :limit

-- name: pending_on_target
-- Runs that may proceed when this target is free again.
select strategy, target from run where state = 'pending' and target = :target

-- name: next_pending
-- The oldest run that waits for this reason.
select strategy, target from run where state = 'pending' and reason = :reason order by id limit 1

-- name: last_run
select * from run where strategy = :strategy and target = :target order by id desc limit 1

-- name: runs
-- A page of runs, newest first, from before an id.
select * from run where id < :before order by id desc limit :limit

-- name: runs_in_state
-- Unfinished ones, of which there are few.
select * from run where state <> 'finished' and state = :state and id < :before
  and (cast(:strategy as text) is null or strategy = :strategy) order by id desc limit :limit

-- name: runs_of_strategy
select * from run where strategy = :strategy and id < :before
  and (cast(:state as text) is null or state = :state) order by id desc limit :limit

-- name: runs_of_strategy_with_outcome
select * from run where strategy = :strategy and outcome = :outcome and id < :before
order by id desc limit :limit

-- name: runs_with_outcome
select * from run where outcome = :outcome and id < :before order by id desc limit :limit

-- name: runs_finished
select * from run where state = 'finished' and id < :before order by id desc limit :limit

-- name: firing_by_strategy
select strategy, count(distinct episode) as n from wanted group by strategy

-- name: in_progress
select strategy, count(*) as n from run
where state <> 'finished' and state in ('acting', 'waiting', 'verifying', 'rolling_back')
group by strategy

-- name: open_alerts
select count(*) as n from episode where ends_at is null

-- name: states
select state, count(*) as n from run where state <> 'finished' group by state

-- name: most_starts
-- How often the most treated target was acted on since a time, for what is left of the budgets.
with late as materialized (
    select target from run where strategy = :strategy and acted_at > :since)
select coalesce(max(n), 0) from (select count(*) as n from late group by target) as t

-- name: newest
-- The newest time in the journal, which the clock must not go behind.
select max(at) as at from (
    select max(last_at) as at from decision
    union all select max(last_seen) from episode where ends_at is null
    union all select max(last_seen) from episode where ends_at is not null
    union all select max(finished_at) from run where state = 'finished'
    union all select max(acted_at) from run where state <> 'finished'
    union all select max(at) from audit) as t

-- name: last_load
select * from loaded order by id desc limit 1

-- name: put_load
insert into loaded (at, last_at, how, by, hash, version, error)
values (:now, :now, :how, :by, :hash, :version, :error)

-- name: repeat_load
update loaded set times = times + 1, last_at = :now where id = :id

-- name: loads
-- A page of loads, newest first, from before an id.
select * from loaded where id < :before order by id desc limit :limit

-- name: load_in_force
select * from loaded where hash is not null order by id desc limit 1

-- name: load_after
select * from loaded where hash is not null and hash <> :hash and at >= :at order by id limit 1

-- name: leave_configuration
-- What was in force until now: it is as old as it was not in force.
update configuration set last_at = :now
where hash = (select hash from loaded where hash is not null order by id desc limit 1)

-- name: put_configuration
insert into configuration (hash, first_at, last_at, version, body)
values (:hash, :now, :now, :version, :body)
on conflict (hash) do update set last_at = excluded.last_at, version = excluded.version

-- name: configurations
-- Those whose hash begins with :low; no hexadecimal digit comes after the last of :high.
select * from configuration where hash >= :low and hash < :high order by hash limit :limit

-- name: prune_configurations
-- What is in force stays, however long ago it was loaded, and what a run names. The decisions that
-- name one are not younger than it.
delete from configuration where hash in (
    select c.hash from configuration c
    where c.last_at < :before
      and c.hash <> (select hash from loaded where hash is not null order by id desc limit 1)
      and not exists (select 1 from run r where r.config_hash = c.hash)
    limit :limit)

-- name: prune_loads
delete from loaded where id in (
    select l.id from loaded l
    where l.id < (select max(id) from loaded)
      and (l.id <= (select max(id) from loaded) - :most
           or l.last_at < :before and not exists (
               select 1 from configuration c where c.hash = l.hash and c.last_at >= :before))
      and l.id <> (select max(id) from loaded where hash is not null)
    limit :limit)

-- name: prune_inputs
-- Others may write beside this, so here and below what goes is looked at once more.
update decision_input set inputs = null, first_inputs = null where decision in (
    select decision from decision_input
    where at < :before and (inputs is not null or first_inputs is not null) limit :limit)
  and at < :before

-- name: prune_decisions
delete from decision where id in (select id from decision where last_at < :before limit :limit)
  and last_at < :before

-- name: prune_runs
delete from run where id in (
    select id from run where state = 'finished' and finished_at < :before limit :limit)

-- name: prune_episodes
delete from episode where id in (
    select id from episode where ends_at is not null and last_seen < :before limit :limit)
  and ends_at is not null and last_seen < :before

-- name: prune_quarantine
delete from quarantine where id in (select id from quarantine where at < :before limit :limit)

-- name: breaker
select * from breaker where name = :name

-- name: breakers_named
select * from breaker where name in (:first, :second, :third)

-- name: breakers
select * from breaker order by name

-- name: put_breaker
insert into breaker (name, failures, failing, trips, tripped_at, until, trial, healed,
                     forgot_failures, forgot_trips, changed_at)
values (:name, :failures, :failing, :trips, :tripped_at, :until, :trial, :healed,
        :forgot_failures, :forgot_trips, :now)
on conflict (name) do update set
    failures = excluded.failures, failing = excluded.failing, trips = excluded.trips,
    tripped_at = excluded.tripped_at,
    until = excluded.until, trial = excluded.trial, healed = excluded.healed,
    forgot_failures = excluded.forgot_failures, forgot_trips = excluded.forgot_trips,
    changed_at = excluded.changed_at

-- name: put_breaker_event
insert into breaker_event (breaker, event, at, run, started_at, target, thresholds, state)
values (:breaker, :event, :at, :run, :started_at, :target, :thresholds, :state)

-- name: breaker_events
select * from breaker_event order by id

-- name: breaker_events_of_run
select * from breaker_event where run = :run order by id

-- name: breaker_events_of_breaker
select * from breaker_event where breaker = :breaker order by id

-- name: dormancy
select failures, failing, failed_at, since, reason from dormancy

-- name: put_dormancy
insert into dormancy (id, failures, failing, failed_at, since, reason)
values (1, :failures, :failing, :failed_at, :since, :reason)
on conflict (id) do update set
    failures = excluded.failures, failing = excluded.failing, failed_at = excluded.failed_at,
    since = excluded.since, reason = excluded.reason

-- name: affected
-- How many targets a strategy is asked for, no further than :most: a storm has thousands. What is
-- proven healed since it was last said to fire is well, though nobody tells us its end.
select count(*) from (
    select 1 from wanted w join episode e on e.id = w.episode
    where w.strategy = :strategy and not exists (
        select 1 from run h
        where h.target = w.target and h.outcome = 'healed' and h.finished_at >= e.last_seen)
    group by w.target limit :most) as t

-- name: touched
-- How many runs could be in treatment; where these are few there is no storm to look for. Each part
-- is limited too: PostgreSQL reads all of both before it knows what their union is.
select count(*) from (
    select id from (
        select id from run where strategy = :strategy and acted_at > :since limit :most) as acted
    union
    select id from (
        select id from run
        where strategy = :strategy and state <> 'finished'
          and state in ('acting', 'waiting', 'verifying', 'rolling_back')
        limit :most) as held
    limit :most) as t

-- name: held_and_well
-- How many targets it holds whose alerts have ended: until that is proven they count as affected.
select count(*) from run
where strategy = :strategy and state <> 'finished'
  and state in ('acting', 'waiting', 'verifying', 'rolling_back')
  and not exists (
    select 1 from wanted w where w.strategy = run.strategy and w.target = run.target)

-- name: treated
-- Other targets that it holds, or has acted on since they began to fire.
select count(*) from (
    select target from run
    where strategy = :strategy and target <> :target and state <> 'finished'
      and state in ('acting', 'waiting', 'verifying', 'rolling_back')
    union
    select r.target from run r
    where r.strategy = :strategy and r.target <> :target and r.acted_at > :since
      and exists (
        select 1 from wanted w join episode e on e.id = w.episode
        where w.strategy = r.strategy and w.target = r.target and e.first_seen <= r.acted_at
          and not exists (
            select 1 from run h
            where h.target = r.target and h.outcome = 'healed'
              and h.finished_at >= e.last_seen))) as t

-- name: latest_starts
-- When a strategy last began on each other target, oldest first.
with late as materialized (
    select target, acted_at from run
    where strategy = :strategy and target <> :target and acted_at > :since)
select max(acted_at) as at from late group by target order by at

-- name: pending_for
select strategy, target from run where state = 'pending' and reason = :reason order by id

-- name: pauses
select * from pause where ended is null and (until is null or until > :now) order by id

-- name: put_pause
insert into pause (scope, reason, by, since, until) values (:scope, :reason, :by, :now, :until)
returning id

-- name: lift_pauses
update pause set ended = :now
where scope = :scope and ended is null and (until is null or until > :now)
returning *

-- name: put_veto
insert into veto (strategy, target, at, by, reason)
values (:strategy, :target, :now, :by, :reason)
on conflict (strategy, target) do update set
    at = excluded.at, by = excluded.by, reason = excluded.reason

-- name: veto
-- A person's no stands while anything fires for this key that had fired when it was said.
select v.by, v.reason from veto v
where v.strategy = :strategy and v.target = :target and exists (
    select 1 from wanted w join episode e on e.id = w.episode
    where w.strategy = v.strategy and w.target = v.target and e.ends_at is null
      and e.first_seen <= v.at)

-- name: put_audit
insert into audit (at, by, action, object, reason, detail)
values (:now, :by, :action, :object, :reason, :detail)

-- name: audits
-- A page of the audit, newest first, from before an id.
select * from audit where id < :before order by id desc limit :limit

-- name: unlogged
select u.run from unlogged u join run r on r.id = u.run order by r.finished_at, u.run limit :limit

-- name: pending_messages
select id, run, what from untold order by id limit :limit

-- name: anchor
select boot, boottime, at from clock

-- name: put_anchor
insert into clock (id, boot, boottime, at) values (1, :boot, :boottime, :at)
on conflict (id) do update set
    boot = excluded.boot, boottime = excluded.boottime, at = excluded.at

-- name: waiting_for
-- How many runs wait for what.
select reason, count(*) as n from run where state = 'pending' group by reason

-- name: prune_breakers
-- A closed breaker that has not changed for so long has nothing to tell any more.
delete from breaker where name in (
    select name from breaker where trips = 0 and changed_at < :before limit :limit)

-- name: prune_breaker_events
-- Those of breakers that have something to remember are what it is the fold of.
delete from breaker_event where id in (
    select id from breaker_event where at < :before and breaker not in (select name from breaker)
    limit :limit)

-- name: prune_pauses
delete from pause where id in (
    select id from pause where ended < :before or until < :before limit :limit)

-- name: prune_vetoes
delete from veto where (strategy, target) in (
    select strategy, target from veto where at < :before
      and not exists (
        select 1 from wanted w where w.strategy = veto.strategy and w.target = veto.target)
    limit :limit)
  and at < :before

-- name: prune_audit
delete from audit where id in (select id from audit where at < :before limit :limit)

-- name: strategies
-- One step for each, and not for each run.
with recursive found (strategy) as (
    select min(strategy) from run
    union all
    select (select min(strategy) from run where strategy > found.strategy) from found
    where found.strategy is not null)
select strategy from found where strategy is not null

-- name: acted_runs
-- A page of the runs that acted and have ended, in the order of their end, from after one of them.
select finished_at, id from run
where state = 'finished' and acted_at is not null and (finished_at, id) > (:end, :id)
  and (cast(:strategy as text) is null or strategy = :strategy)
order by finished_at, id limit :limit
