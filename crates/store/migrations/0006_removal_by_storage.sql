-- When a count was written last: how long it is kept is counted from there, because records carry whatever time their producers
-- say. For those before, the last that is known.
alter table dead_letter_counts add column stored_at bigint not null default 0;
update dead_letter_counts set stored_at = coalesce((select max(stored_at) from dead_letters), hour);
create index dead_letter_counts_stored on dead_letter_counts (stored_at);

-- What is old is found wherever it lies in the order of changes: a clock that was ahead for a while holds up nothing else.
create index dead_letters_stored on dead_letters (stored_at, seq);
create index health_at on health (at, seq);
