-- What was received, decided and done. Times are seconds since the epoch (UTC), lists are JSON.

create table episode (                      -- one firing of one fingerprint
    id            integer primary key,
    fingerprint   text    not null,
    starts_at     real    not null,         -- the earliest that any peer said
    ends_at       real,                     -- null while it fires
    labels        text    not null,
    annotations   text    not null,
    generator_url text    not null,
    sender        text    not null,         -- externalURL of the Alertmanager that said it last
    first_seen    real    not null,
    last_seen     real    not null,
    notifications integer not null default 1,
    disputed_at   real                      -- when a peer said that it fires, after its end
);
create unique index episode_open on episode (fingerprint) where ends_at is null;
create index episode_closed on episode (fingerprint, ends_at) where ends_at is not null;

create index episode_disputed on episode (id) where disputed_at is not null;

create table wanted (                       -- which strategies an open episode asks for
    strategy text    not null,
    target   text    not null,
    episode  integer not null references episode (id) on delete cascade,
    primary key (strategy, target, episode)
) without rowid;
create index wanted_episode on wanted (episode);

create table run (
    id          integer primary key autoincrement,
    strategy    text    not null,
    target      text    not null,
    state       text    not null check (state in
                  ('pending', 'acting', 'waiting', 'verifying', 'rolling_back', 'finished')),
    outcome     text,
    cause       text,                       -- why it rolls back: the outcome to be
    reason      text    not null default '',
    until       real,
    episode     integer not null,
    created_at  real    not null,
    notified_at real    not null,
    acted_at    real,
    verify_from real,
    finished_at real,
    config_hash text    not null default '',
    plan        text,
    check ((state = 'finished') = (outcome is not null))
);
create unique index run_unfinished on run (strategy, target) where state <> 'finished';
create unique index run_holder on run (target)
    where state in ('acting', 'waiting', 'verifying', 'rolling_back');
create index run_waiting on run (reason, id) where state = 'pending';
create index run_line on run (strategy, target, id);
create index run_target on run (target, finished_at) where state = 'finished';
create index run_starts on run (strategy, target, acted_at) where acted_at is not null;

create table step (
    run         integer not null references run (id) on delete cascade,
    phase       text    not null check (phase in ('run', 'rollback')),
    position    integer not null,
    action      text    not null,
    state       text    not null check (state in ('started', 'done', 'failed', 'skipped', 'unknown')),
    started_at  real    not null,
    finished_at real,
    attempt     integer not null default 1,
    result      text    not null default '{}',
    error       text    not null default '',
    primary key (run, phase, position)
) without rowid;

create table observation (                  -- one look at Prometheus while verifying
    run     integer not null references run (id) on delete cascade,
    at      real    not null,
    verdict text    not null,
    value   real,
    detail  text    not null,
    primary key (run, at)
) without rowid;

create table decision (                     -- written once, counted while it repeats
    id       integer primary key,
    strategy text    not null,
    target   text    not null,
    verdict  text    not null,
    reason   text    not null default '',
    until    real,
    detail   text    not null default '',
    answers  text    not null,              -- what every guard said
    run      integer,
    at       real    not null,
    last_at  real    not null,
    times    integer not null default 1
);
create index decision_line on decision (strategy, target, id);
create index decision_run on decision (run) where run is not null;

create table quarantine (                   -- alerts that could not be read
    id      integer primary key,
    at      real not null,
    sender  text not null,
    problem text not null,
    raw     text not null
);

create table total (                        -- lifetime counters, exported as metrics
    metric text not null,
    labels text not null,                   -- values in the order of the metric's label names
    value  real not null,
    primary key (metric, labels)
) without rowid;
