-- The lake's files, and up to where each partition is in them. A file counts if it is here, and is here only with all that is in it.
create table lake_files (
    path text not null primary key,
    layout bigint not null,
    source text not null,
    -- Hours since 1970 of its events' times; the first and the last of these, in microseconds.
    hour bigint not null,
    earliest bigint not null,
    latest bigint not null,
    events bigint not null,
    bytes bigint not null,
    written_at bigint not null
);
create index lake_files_by_hour on lake_files (source, hour);
create table lake_positions (
    topic text not null,
    incarnation bigint not null,
    partition_no bigint not null,
    -- The first offset that is not in the lake, and the newest broker's time before it.
    next_offset bigint not null,
    newest_log bigint,
    primary key (topic, incarnation, partition_no)
);
