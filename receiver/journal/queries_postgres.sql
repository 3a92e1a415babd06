-- What PostgreSQL says in its own way, mostly with many rows as one array for each column.

-- name: admit_firing
-- Note that the open episodes of these alerts are said again, and open one for each that has none;
-- return how many of each there were. A start from after the last notification: the end in between
-- was never told. Else the earliest that any peer says. Who vouches for them does not for what has
-- other labels, whatever its fingerprint. A start that is not later than the last known end is a
-- peer that lags behind, and opens nothing. An end that was still to come when it was told hides no
-- start after that, but the one that it ended. All of it sees the journal as it was before.
with said as materialized (
    select *
    from unnest(cast(:fingerprints as text[]), cast(:starts as double precision[]),
                cast(:labels as text[]), cast(:annotations as text[]), cast(:links as text[]))
        as a (fingerprint, starts_at, labels, annotations, generator_url)
), again as (
    update episode set
        first_seen = case when a.starts_at > last_seen then :now else first_seen end,
        starts_at = case when a.starts_at > last_seen then a.starts_at
                         else least(episode.starts_at, a.starts_at) end,
        cleared_at = case when a.starts_at > last_seen then null else cleared_at end,
        annotations = a.annotations,
        generator_url = a.generator_url,
        sender = :sender,
        vouched_by = case when cast(:vouched_by as text) <> '' and episode.labels = a.labels
                          then :vouched_by else vouched_by end,
        vouched_link = case when cast(:vouched_by as text) <> '' and episode.labels = a.labels
                            then a.generator_url else vouched_link end,
        last_seen = :now,
        notifications = notifications + 1
    from said as a
    where episode.fingerprint = a.fingerprint and episode.ends_at is null
    returning 1
), opened as (
    insert into episode
        (fingerprint, starts_at, labels, annotations, generator_url, sender, vouched_by,
         vouched_link, first_seen, last_seen)
    select a.fingerprint, a.starts_at, a.labels, a.annotations, a.generator_url, :sender,
           :vouched_by,
           case when cast(:vouched_by as text) <> '' then a.generator_url else '' end, :now, :now
    from said as a
    where not exists (
            select 1 from episode e where e.fingerprint = a.fingerprint and e.ends_at is null)
      and not exists (
            select 1 from episode e
            where e.fingerprint = a.fingerprint and e.ends_at is not null
              and e.ends_at >= a.starts_at
              and (e.last_seen >= a.starts_at or e.starts_at = a.starts_at))
    returning 1
)
select (select count(*) from again), (select count(*) from opened)

-- name: note_conflict
-- Note that a closed episode is said to fire: a peer that lags behind, or Alertmanager had given it
-- up while Prometheus was out of its reach.
update episode set disputed_at = :now
from unnest(cast(:column_0 as text[]), cast(:column_1 as double precision[]))
    as a (fingerprint, starts_at)
where episode.ends_at is not null and episode.ends_at >= a.starts_at
  and (episode.last_seen >= a.starts_at or episode.starts_at = a.starts_at)
  and episode.id = (
    select max(id) from episode e where e.fingerprint = a.fingerprint and e.ends_at is not null)

-- name: admit_wanted
-- Note which strategies ask for the open episodes of these fingerprints.
insert into wanted (strategy, target, episode)
select w.strategy, w.target, e.id
from unnest(cast(:column_0 as text[]), cast(:column_1 as text[]), cast(:column_2 as text[]))
    as w (strategy, target, fingerprint)
join episode e on e.fingerprint = w.fingerprint and e.ends_at is null
on conflict do nothing

-- name: admit_resolved
-- Close the open episodes of resolved alerts. An end that lies before the episode's start belongs
-- to an earlier one, and so does one that an earlier one has. Where it matters, Prometheus is asked
-- afterwards whether it is one.
update episode set
    ends_at = greatest(a.ends_at, starts_at), ended_by = 'told', last_seen = :now,
    sender = :sender,
    disputed_at = case when exists (select 1 from wanted w where w.episode = episode.id)
                       then cast(:now as double precision) end,
    notifications = notifications + 1
from unnest(cast(:column_0 as text[]), cast(:column_1 as double precision[]))
    as a (fingerprint, ends_at)
where episode.fingerprint = a.fingerprint and episode.ends_at is null
  and a.ends_at >= episode.starts_at
  and not exists (
    select 1 from episode e
    where e.fingerprint = a.fingerprint and e.ends_at = a.ends_at)
returning id

-- name: select
-- What closed episodes asked for.
insert into selected (episode, strategy, target) select episode, strategy, target from wanted
where episode = any(:episodes) on conflict do nothing

-- name: unwant
-- Take back what closed episodes asked for.
delete from wanted where episode = any(:episodes)
returning strategy, target

-- name: put_inputs
-- Of the decision that was written just now.
insert into decision_input (decision, at, config_hash, inputs)
values (currval(pg_get_serial_sequence('decision', 'id')), :now, :config_hash, :inputs)

-- name: logged
delete from unlogged where run = any(:runs)

-- name: messages_sent
delete from untold where id = any(:ids)

-- name: size
-- Bytes of promheal's tables and of its jobs, with their indexes.
select coalesce(sum(pg_total_relation_size(oid)), 0)::bigint from pg_class
where relnamespace = current_schema()::regnamespace and relkind = 'r'

-- name: end_stuck
-- End who has been in a writing transaction for too long, and has not said anything for half of that
-- time. They are found first: a condition that ends connections might be asked of others.
with stuck as materialized (
    select pid from pg_stat_activity a
    where datname = current_database() and application_name = 'promheal'
      and pid <> pg_backend_pid() and wait_event_type = 'Client' and state <> 'idle'
      and xact_start < clock_timestamp() - make_interval(secs => :seconds)
      and state_change < clock_timestamp() - make_interval(secs => :seconds / 2.0)
      and (backend_xid is not null or exists (
        select 1 from pg_locks l where l.pid = a.pid and l.locktype = 'advisory' and l.granted
          and l.objid <> 2)))
select pid, pg_terminate_backend(pid) from stuck

-- name: sequence
-- What numbers the rows of a table, where anything does.
select pg_get_serial_sequence(table_name, column_name) from information_schema.columns
where table_schema = current_schema() and table_name = :table and is_identity = 'YES'

-- name: now
select extract(epoch from clock_timestamp())::double precision

-- name: secret
select value from secret where name = :name

-- name: put_unlogged
insert into unlogged (run) values (:run) on conflict do nothing

-- name: put_message
insert into untold (run, what) values (:run, :what)

-- name: tell_news
-- Who keeps house hears that something is to be sent. Whoever notifies has its commit for itself, so
-- this is a transaction of its own, which holds nothing.
select pg_notify('promheal_news', '')

-- name: routes
-- Where the next step of these runs is executed: a run that has begun belongs to its place.
select r.strategy, r.target, r.runs_on
from unnest(cast(:strategies as text[]), cast(:targets as text[])) as k (strategy, target)
join run r on r.strategy = k.strategy and r.target = k.target
where r.state in ('acting', 'waiting', 'rolling_back') and r.runs_on <> ''

-- name: jobs_to_do
select queueing_lock from procrastinate_jobs
where status = 'todo' and queueing_lock = any(:names)

-- name: jobs_due
select count(*) from procrastinate_jobs
where status = 'todo' and (scheduled_at is null or scheduled_at <= now())

-- name: defer_now
-- One job for each key. One that waits already is held until our end, for who begins it earlier does
-- not see what we write; then its workers look again. Within one target the earliest comes first.
with put as (
    insert into procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args)
    select queue, :task, 1700000000 - extract(epoch from now())::integer, target, name,
           jsonb_build_object('strategy', strategy, 'target', target)
    from unnest(cast(:queues as text[]), cast(:strategies as text[]), cast(:targets as text[]),
                cast(:names as text[])) as k (queue, strategy, target, name)
    order by name
    on conflict (queueing_lock) where status = 'todo' do update set queue_name = excluded.queue_name
    returning queue_name, xmax <> 0 as waited)
select pg_notify(:channel || queue_name, :payload)
from (select distinct queue_name from put where waited) as q

-- name: defer_later
-- One job for each key, for the earliest time that anybody said. It is held as above.
insert into procrastinate_jobs
    (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
select queue, :task, 1700000000 - extract(epoch from to_timestamp(at))::integer, target, name,
       jsonb_build_object('strategy', strategy, 'target', target), to_timestamp(at)
from unnest(cast(:queues as text[]), cast(:strategies as text[]), cast(:targets as text[]),
            cast(:names as text[]), cast(:times as double precision[]))
    as k (queue, strategy, target, name, at)
order by name
on conflict (queueing_lock) where status = 'todo' do update set
    queue_name = excluded.queue_name, priority = excluded.priority,
    scheduled_at = excluded.scheduled_at
where procrastinate_jobs.scheduled_at > excluded.scheduled_at

-- name: forget_later
-- A job without a time is for now: a version that had one job for both puts it under this name.
select procrastinate_cancel_job_v1(id, false, true) from procrastinate_jobs
where status = 'todo' and queueing_lock = :name and scheduled_at is not null

-- name: end_job
select procrastinate_finish_job_v1(id, 'succeeded', true) from procrastinate_jobs where id = :id

-- name: knock
-- Who stands next in the line of these targets may be considered now.
select pg_notify(:channel || queue_name, :payload) from (
    select distinct queue_name from procrastinate_jobs
    where lock = any(:targets) and status = 'todo'
      and (scheduled_at is null or scheduled_at <= now())) as next

-- name: claim
-- Whose lease has ended may still be writing with its fence: this waits for that, for it changes the
-- epoch, which is unique and so part of the row's key.
insert into claim (target, epoch, worker, until)
values (:target, nextval('epoch'), :worker, clock_timestamp() + make_interval(secs => :lease))
on conflict (target) do update set
    epoch = excluded.epoch, worker = excluded.worker, until = excluded.until
where claim.until <= clock_timestamp()
returning epoch

-- name: claimed_until
-- When nobody has the target in hand any more, if somebody has.
select extract(epoch from until)::double precision from claim
where target = :target and until > clock_timestamp()

-- name: fence
-- Fails unless this epoch still is that of who has the target in hand.
select fence(:target, :epoch)

-- name: hold
update claim set until = clock_timestamp() + make_interval(secs => :seconds) where target = :target

-- name: release
delete from claim where target = :target and epoch = :epoch

-- name: renew
-- A claim that is just being written is left alone, for a heartbeat waits for nobody: a step extends
-- its own, and who takes one over must have it.
update claim set until = greatest(until, clock_timestamp() + make_interval(secs => :lease))
where target in (
    select target from claim where epoch = any(:epochs) for no key update skip locked)

-- name: beat
insert into worker (id, host, machine, pid, born, number, names, version, engine, seen)
values (:id, :host, :machine, :pid, :born, :number, :names, :version, :engine, clock_timestamp())
on conflict (id) do update set number = excluded.number, seen = excluded.seen

-- name: neighbours
-- Other processes of a machine.
select id, pid, born from worker where machine = :machine and id <> :id

-- name: release_all
delete from claim where worker = :worker

-- name: jobs_of
-- What a process has begun, claimed already or not yet.
select j.id, j.args ->> 'strategy' as strategy, j.args ->> 'target' as target
from procrastinate_jobs j join worker w on w.number = j.worker_id
where w.id = :worker and j.status = 'doing'

-- name: leave
delete from worker where id = :id

-- name: workers
select id, host, names, version, extract(epoch from seen)::double precision as seen from worker
where seen > clock_timestamp() - make_interval(secs => :lease) order by host, id

-- name: has_worker
select exists (
    select 1 from worker
    where :name = any(names) and seen > clock_timestamp() - make_interval(secs => :lease))

-- name: without_worker
-- Runs whose steps nobody would execute now.
select count(*) from run r
where r.state <> 'finished'
  and (r.state = 'pending' and r.reason = 'no_worker' or r.runs_on <> '' and not exists (
    select 1 from worker w
    where r.runs_on = any(w.names) and w.seen > clock_timestamp() - make_interval(secs => :lease)))

-- name: prune_workers
delete from worker where id in (
    select id from worker where seen < to_timestamp(:before) limit :limit)
  and seen < to_timestamp(:before)

-- name: prune_claims
delete from claim where target in (
    select target from claim where until < to_timestamp(:before) limit :limit)
  and until < to_timestamp(:before)

-- name: count_total
-- A part for each of some connections: whoever counts the same would wait for our commit.
insert into total_part (metric, labels, part, value, since)
values (:metric, :labels, mod(pg_backend_pid(), 64), :value,
    extract(epoch from clock_timestamp())::double precision)
on conflict (metric, labels, part) do update set value = total_part.value + excluded.value

-- name: totals
-- Lifetime counters, and for how many seconds there is each.
select metric, labels, value, extract(epoch from clock_timestamp())::double precision - since as age
from totals
