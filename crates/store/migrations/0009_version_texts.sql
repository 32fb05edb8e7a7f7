-- Versions are numbered in the order in which they were stored, and keep the texts that they were compiled from as long as
-- records from before the next version may be read again.
alter table rule_versions add column number bigint not null default 0;
alter table rule_versions add column texts bytea;
update rule_versions set number = (select count(*) from rule_versions o
    where o.seq < rule_versions.seq
       or (o.seq = rule_versions.seq and o.in_force_from < rule_versions.in_force_from)
       or (o.seq = rule_versions.seq and o.in_force_from = rule_versions.in_force_from
           and o.version <= rule_versions.version));
