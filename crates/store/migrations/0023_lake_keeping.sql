-- Files that the catalog names no more, since what they held was dropped or is in another file: until nobody can be reading them.
create table lake_leaving (
    path text not null primary key,
    bytes bigint not null,
    left_at bigint not null
);
-- What retention has dropped of each source, by why: through which time of its events any are gone.
create table lake_dropped (
    source text not null,
    reason text not null,
    through bigint not null,
    events bigint not null,
    dropped_at bigint not null,
    primary key (source, reason)
);
-- Records that Kafka deleted before the lake had read them.
create table lake_lost (
    topic text not null,
    incarnation bigint not null,
    partition_no bigint not null,
    from_offset bigint not null,
    to_offset bigint not null,
    noticed_at bigint not null,
    primary key (topic, incarnation, partition_no, from_offset)
);
-- What is too old is looked for among all sources.
create index lake_files_latest on lake_files (latest);
-- By which record a topic is told from another of its name, and through when all that the broker had taken is in files.
alter table lake_positions add column last_hash bytea;
alter table lake_positions add column through bigint;
