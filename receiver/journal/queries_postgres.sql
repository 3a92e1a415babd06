-- What PostgreSQL says in its own way, mostly with many rows as one array for each column.

-- name: admit_again
-- Note that the open episodes of these alerts are said again. A start from after the last
-- notification: the end in between was never told. Else the earliest that any peer says.
update episode set
    first_seen = case when a.starts_at > last_seen then :now else first_seen end,
    starts_at = case when a.starts_at > last_seen then a.starts_at
                     else least(episode.starts_at, a.starts_at) end,
    annotations = a.annotations,
    generator_url = a.generator_url,
    sender = :sender,
    last_seen = :now,
    notifications = notifications + 1
from unnest(cast(:fingerprints as text[]), cast(:starts as double precision[]),
            cast(:labels as text[]), cast(:annotations as text[]), cast(:links as text[]))
    as a (fingerprint, starts_at, labels, annotations, generator_url)
where episode.fingerprint = a.fingerprint and episode.ends_at is null

-- name: admit_new
-- Open an episode for each of these alerts that has none. A start that is not later than the last
-- known end is a peer that lags behind, and opens nothing.
insert into episode
    (fingerprint, starts_at, labels, annotations, generator_url, sender, first_seen, last_seen)
select a.fingerprint, a.starts_at, a.labels, a.annotations, a.generator_url, :sender, :now, :now
from unnest(cast(:fingerprints as text[]), cast(:starts as double precision[]),
            cast(:labels as text[]), cast(:annotations as text[]), cast(:links as text[]))
    as a (fingerprint, starts_at, labels, annotations, generator_url)
where not exists (
        select 1 from episode e where e.fingerprint = a.fingerprint and e.ends_at is null)
  and not exists (
        select 1 from episode e
        where e.fingerprint = a.fingerprint and e.ends_at is not null and e.ends_at >= a.starts_at)

-- name: dispute
-- Note that a closed episode is said to fire: a peer that lags behind, or Alertmanager had given it
-- up while Prometheus was out of its reach.
update episode set disputed_at = :now
from unnest(cast(:column_0 as text[]), cast(:column_1 as double precision[]))
    as a (fingerprint, starts_at)
where episode.ends_at is not null and episode.ends_at >= a.starts_at
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
-- to an earlier one.
update episode set
    ends_at = greatest(a.ends_at, starts_at), last_seen = :now, sender = :sender,
    notifications = notifications + 1
from unnest(cast(:column_0 as text[]), cast(:column_1 as double precision[]))
    as a (fingerprint, ends_at)
where episode.fingerprint = a.fingerprint and episode.ends_at is null
  and a.ends_at >= episode.starts_at
returning id

-- name: unwant
-- Take back what closed episodes asked for.
delete from wanted where episode = any(:episodes)
returning strategy, target

-- name: logged
delete from unlogged where run = any(:runs)

-- name: told
delete from untold where id = any(:ids)

-- name: size
-- Bytes of promheal's tables and of its jobs, with their indexes.
select coalesce(sum(pg_total_relation_size(oid)), 0)::bigint from pg_class
where relnamespace = current_schema()::regnamespace and relkind = 'r'
