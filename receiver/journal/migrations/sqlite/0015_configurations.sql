-- What stands behind the hash of a configuration, and who loaded it when.

create table configuration (                -- what a hash stands for, once
    hash     text primary key,
    first_at real not null,
    last_at  real not null,                 -- when it was last in force, as far as later loads say
    version  text not null,                 -- of the promheal that loaded it last
    body     blob not null                  -- zlib of JSON, without secrets
) without rowid;

create table loaded (                       -- each load, counted while it repeats
    id      integer primary key,
    at      real not null,
    last_at real not null,
    times   integer not null default 1,
    how     text not null,                  -- start, SIGHUP or /-/reload
    by      text not null,                  -- whose reload; '' where nobody is known
    hash    text,                           -- null: refused
    version text not null,
    error   text not null default ''
);
create index run_of_config on run (config_hash);
