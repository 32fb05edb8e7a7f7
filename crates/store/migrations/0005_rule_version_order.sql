-- The change that stored a version: the newest version is the one stored last. By the times from which they are in force, one
-- start with a clock ahead would stay the newest for as long as the clock was ahead.
alter table rule_versions add column seq bigint not null default 0;
update rule_versions set seq = coalesce((select max(c.seq) from changes c
    where c.kind = 'rule_version' and c.id = rule_versions.version), 0);
