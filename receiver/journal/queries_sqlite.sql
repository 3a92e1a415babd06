-- What SQLite says in its own way, mostly with many rows in one JSON text.

-- name: admit_again
-- Note that the open episodes of these alerts are said again. A start from after the last
-- notification: the end in between was never told. Else the earliest that any peer says. One
-- statement for many alerts, with a tuple for each in place of ROWS: SQLite works on it while
-- Python does other things. ?1 is now, ?2 the sender, ?3 who vouches for them, if anybody does: for
-- what has other labels, whatever its fingerprint, he does not.
update episode set
    first_seen = iif(a.column2 > last_seen, ?1, first_seen),
    starts_at = iif(a.column2 > last_seen, a.column2, min(starts_at, a.column2)),
    cleared_at = iif(a.column2 > last_seen, null, cleared_at),
    annotations = a.column4,
    generator_url = a.column5,
    sender = ?2,
    vouched_by = iif(?3 <> '' and labels = a.column3, ?3, vouched_by),
    vouched_link = iif(?3 <> '' and labels = a.column3, a.column5, vouched_link),
    last_seen = ?1,
    notifications = notifications + 1
from (values ROWS) a
where episode.fingerprint = a.column1 and episode.ends_at is null

-- name: admit_new
-- Open an episode for each of these alerts that has none. A start that is not later than the last
-- known end is a peer that lags behind, and opens nothing. An end that was still to come when it was
-- told hides no start after that, but the one that it ended.
insert into episode
    (fingerprint, starts_at, labels, annotations, generator_url, sender, vouched_by, vouched_link,
     first_seen, last_seen)
select a.column1, a.column2, a.column3, a.column4, a.column5, ?2, ?3, iif(?3 <> '', a.column5, ''),
       ?1, ?1
from (values ROWS) a
where not exists (
        select 1 from episode e where e.fingerprint = a.column1 and e.ends_at is null)
  and not exists (
        select 1 from episode e
        where e.fingerprint = a.column1 and e.ends_at is not null and e.ends_at >= a.column2
          and (e.last_seen >= a.column2 or e.starts_at = a.column2))

-- name: note_conflict
-- Note that a closed episode is said to fire: a peer that lags behind, or Alertmanager had given it
-- up while Prometheus was out of its reach.
update episode set disputed_at = :now
from json_each(:rows) a
where episode.ends_at is not null and episode.ends_at >= a.value ->> 1
  and (episode.last_seen >= a.value ->> 1 or episode.starts_at = a.value ->> 1)
  and episode.id = (
    select max(id) from episode e where e.fingerprint = a.value ->> 0 and e.ends_at is not null)

-- name: admit_wanted
-- Note which strategies ask for the open episodes of these fingerprints.
insert or ignore into wanted (strategy, target, episode)
select p.value ->> 0, p.value ->> 1, e.id
from json_each(:rows) p
join episode e on e.fingerprint = p.value ->> 2 and e.ends_at is null

-- name: admit_resolved
-- Close the open episodes of resolved alerts. An end that lies before the episode's start belongs
-- to an earlier one, and so does one that an earlier one has. Where it matters, Prometheus is asked
-- afterwards whether it is one.
update episode set
    ends_at = max(a.value ->> 1, starts_at), ended_by = 'told', last_seen = :now,
    sender = :sender,
    disputed_at = iif(exists (select 1 from wanted w where w.episode = episode.id), :now, null),
    notifications = notifications + 1
from json_each(:rows) a
where episode.fingerprint = a.value ->> 0 and episode.ends_at is null
  and a.value ->> 1 >= episode.starts_at
  and not exists (
    select 1 from episode e
    where e.fingerprint = a.value ->> 0 and e.ends_at = a.value ->> 1)
returning id

-- name: select
-- What closed episodes asked for.
insert into selected (episode, strategy, target) select episode, strategy, target from wanted
where episode in (select value from json_each(:episodes)) on conflict do nothing

-- name: unwant
-- Take back what closed episodes asked for.
delete from wanted where episode in (select value from json_each(:episodes))
returning strategy, target

-- name: put_inputs
-- Of the decision that was written just now.
insert into decision_input (decision, at, config_hash, inputs)
values (last_insert_rowid(), :now, :config_hash, :inputs)

-- name: logged
delete from unlogged where run in (select value from json_each(:runs))

-- name: messages_sent
delete from untold where id in (select value from json_each(:ids))

-- name: size
select page_count * page_size as bytes from pragma_page_count(), pragma_page_size()

-- name: put_unlogged
insert into unlogged (run) values (:run) on conflict do nothing

-- name: put_message
insert into untold (run, what) values (:run, :what)

-- name: without_worker
-- There are no workers, so nobody executes what is bound to a host.
select count(*) from run where state = 'pending' and reason = 'no_worker'

-- name: checkpoint
-- Count how far it has come, for the marker beside it.
update generation set checkpoint = checkpoint + 1 returning journal, checkpoint

-- name: begin_anew
-- Another name, so that no older copy will be taken for it.
update generation set journal = lower(hex(randomblob(8))), checkpoint = 1

-- name: count_total
insert into total (metric, labels, value, since) values (:metric, :labels, :value,
    (julianday('now') - 2440587.5) * 86400)
on conflict (metric, labels) do update set value = total.value + excluded.value

-- name: totals
-- Lifetime counters, and for how many seconds there is each.
select metric, labels, value, (julianday('now') - 2440587.5) * 86400 - since as age
from total
