-- What all entries are of that one request makes: the seq of the first. Entries of before have none, and are not taken back.
alter table audit add column change_id bigint;
create index audit_change on audit (change_id, seq, action) where change_id is not null;
