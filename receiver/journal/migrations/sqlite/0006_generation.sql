-- Which journal this is, and how far it has come, for the marker beside the file.

create table generation (
    id         integer primary key check (id = 1),
    journal    text    not null,             -- its name; new whenever a loss is accepted
    checkpoint integer not null
);
insert into generation values (1, lower(hex(randomblob(8))), 1);
