-- What stops us, and who steers: breakers, dormancy, pauses, a person's no, the audit.

alter table run add column asked_at real;                 -- when a person was asked to approve it
alter table run add column approved_at real;
alter table run add column cancel text not null default '';
create index run_acted on run (strategy, acted_at) where acted_at is not null;

create table breaker (                      -- the fold over breaker_event, kept up with each one
    name       text primary key,
    failures   integer not null,
    trips      integer not null,
    tripped_at real,
    until      real,
    trial      integer,
    changed_at real not null
) without rowid;

create table breaker_event (                -- everything that changed a breaker
    id         integer primary key,
    breaker    text    not null,
    event      text    not null check (event in
                 ('failure', 'success', 'trial', 'release', 'reset')),
    at         real    not null,
    run        integer,
    started_at real    not null,            -- when the run whose outcome it is began to act
    thresholds text    not null,            -- those in force then
    state      text    not null             -- what it became
);
create index breaker_event_line on breaker_event (breaker, id);
create index breaker_event_run on breaker_event (run) where run is not null;
create index run_ended on run (finished_at, id) where acted_at is not null;

create table dormancy (                     -- one row: how the engine as a whole has fared
    id        integer primary key check (id = 1),
    failures  integer not null,
    failed_at real,
    since     real,
    reason    text    not null
);

create table pause (
    id     integer primary key autoincrement,
    scope  text not null,                   -- all, strategy:NAME or target:KEY
    reason text not null,
    by     text not null,
    since  real not null,
    until  real,                            -- null: until somebody resumes
    ended  real                             -- when somebody did
);
create index pause_standing on pause (scope) where ended is null;

create table veto (                         -- a person's no, to what fires for a key now
    strategy text not null,
    target   text not null,
    at       real not null,
    by       text not null,
    reason   text not null,
    primary key (strategy, target)
) without rowid;

create table audit (                        -- every change by an operator
    id     integer primary key autoincrement,
    at     real not null,
    by     text not null,
    action text not null,
    object text not null,
    reason text not null,
    detail text not null
);

create table unlogged (                     -- ended runs whose line is not in the healing log yet
    run integer primary key references run (id) on delete cascade
);

create table clock (                        -- what promheal's clock showed at a moment of a boot
    id       integer primary key check (id = 1),
    boot     text not null,
    boottime real not null,
    at       real not null
);
