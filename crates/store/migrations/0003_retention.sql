-- When a row was closed, for as long as it is. For those closed before, the last that was done to them.
alter table alerts add column closed_at bigint;
update alerts set closed_at = coalesce((select max(at) from audit where target = alerts.id), created_at)
    where status = 'closed';
create index alerts_closed on alerts (closed_at, id) where closed_at is not null;

-- Bytes of the dead letters that are kept with their text: by source, reason, hour and partition, and by source.
alter table dead_letter_counts add column bytes bigint not null default 0;
update dead_letter_counts set bytes = coalesce((select sum(length(d.payload)) from dead_letters d
    where d.source = dead_letter_counts.source and d.reason = dead_letter_counts.reason
    and d.hour = dead_letter_counts.hour and d.topic = dead_letter_counts.topic
    and d.incarnation = dead_letter_counts.incarnation and d.partition_no = dead_letter_counts.partition_no), 0);
create table dead_letter_bytes (
    source text not null primary key,
    bytes bigint not null
);
insert into dead_letter_bytes (source, bytes)
    select source, sum(bytes) from dead_letter_counts group by source;

-- The ledger of what retention has removed: so many of a kind, by rule, source or topic, a day.
create table removed (
    kind text not null,
    subject text not null,
    day bigint not null,
    n bigint not null,
    primary key (kind, subject, day)
);
