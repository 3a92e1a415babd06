-- What a step wrote down before it touched anything, so that it can be undone wherever it was cut.

alter table step add column saved text not null default '{}';
