-- When a backup was restored is read for each decision: grace counts from there.

create index audit_restore on audit (at) where action = 'restore';
