-- Indexes end in the number with which a row appeared instead of its id: ids are hashes of 64 characters, so that each index
-- was as wide as its ids and written all over.
drop index alerts_crossed;
drop index alerts_last_seen;
drop index alerts_severity;
drop index alerts_count;
drop index alerts_created;
drop index alerts_open;
drop index alerts_status;
drop index alerts_rule;
drop index alerts_entity;
drop index alerts_episode;
create index alerts_crossed on alerts (crossed_at, created_seq) where covered_by is null;
create index alerts_last_seen on alerts (last_seen, crossed_at, created_seq) where covered_by is null;
create index alerts_severity on alerts (severity, crossed_at, created_seq) where covered_by is null;
create index alerts_count on alerts (event_count, crossed_at, created_seq) where covered_by is null;
create index alerts_created on alerts (created_seq) where covered_by is null;
create index alerts_open on alerts (crossed_at, created_seq) where covered_by is null and status <> 'closed';
create index alerts_status on alerts (status, crossed_at, created_seq) where covered_by is null;
create index alerts_rule on alerts (rule_id, crossed_at, created_seq) where covered_by is null;
create index alerts_entity on alerts (entity_value, crossed_at, created_seq) where covered_by is null;

-- The key first: what many rules find of one key at once lies together.
create index alerts_episode on alerts (group_key, rule_id, crossed_at);

-- Made anew behind the others: of two that are as good for a look-up, SQLite takes the one that was made last.
drop index alerts_waiting;
create index alerts_waiting on alerts (rule_id, crossed_at)
    where state = 'notice' and covered_by is null and withdrawn is null;
