-- What people may have to be told, and have not been yet.

create table untold (
    id   integer primary key autoincrement,
    run  integer not null references run (id) on delete cascade,
    what text    not null check (what in ('asked', 'ended'))
);
create index untold_run on untold (run);
