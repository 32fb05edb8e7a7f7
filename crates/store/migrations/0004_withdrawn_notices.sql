-- A notice that no alert can cover any more: why, and since when.
alter table alerts add column withdrawn text;
alter table alerts add column withdrawn_at bigint;

-- Notices that wait for their alert.
create index alerts_waiting on alerts (rule_id, crossed_at)
    where state = 'notice' and covered_by is null and withdrawn is null;
