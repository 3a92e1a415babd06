-- Whose expression counts for an alert whose rule Prometheus does not have.

alter table episode add column vouched_by text not null default '';     -- the last sender that promheal.yml trusts; empty: none
alter table episode add column vouched_link text not null default '';   -- its generatorURL, which nobody else overwrites
