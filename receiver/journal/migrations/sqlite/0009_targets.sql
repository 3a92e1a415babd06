-- Which targets the main breaker and dormancy have counted, each of them once.

alter table breaker add column failing text not null default '[]';
alter table breaker_event add column target text;       -- what failed, where that counts once
alter table dormancy add column failing text not null default '[]';
