-- What a file of the lake holds: `events`, or `originals`, which are records as they came.
alter table lake_files add column holds text not null default 'events';
-- What is too old is looked for by what it is: originals go long before events.
drop index lake_files_latest;
create index lake_files_latest on lake_files (holds, latest);
-- What was dropped is told of each.
alter table lake_dropped rename to lake_dropped_events;
create table lake_dropped (
    source text not null,
    holds text not null,
    reason text not null,
    through bigint not null,
    events bigint not null,
    dropped_at bigint not null,
    primary key (source, holds, reason)
);
insert into lake_dropped (source, holds, reason, through, events, dropped_at)
    select source, 'events', reason, through, events, dropped_at from lake_dropped_events;
drop table lake_dropped_events;
