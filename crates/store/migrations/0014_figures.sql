-- Counting over these indexes read a row for each entry, only to see that `covered_by` is null, which the index itself says: SQLite
-- counts from an index alone only where it holds every column that is named. An entry grows by one byte.
drop index alerts_crossed;
drop index alerts_rule;
create index alerts_crossed on alerts (crossed_at, created_seq, covered_by) where covered_by is null;
create index alerts_rule on alerts (rule_id, crossed_at, created_seq, covered_by) where covered_by is null;

-- Behind the others again: of two that are as good for a look-up, SQLite takes the one that was made last.
drop index alerts_waiting;
create index alerts_waiting on alerts (rule_id, crossed_at)
    where state = 'notice' and covered_by is null and withdrawn is null;
