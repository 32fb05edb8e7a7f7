-- Evidence of two incarnations of a topic can have one offset. What bodies written before refer to names no incarnation, which
-- means the first, and so do its contents.
create table evidence_of (
    id text not null references alerts (id),
    topic text not null,
    incarnation bigint not null,
    partition_no bigint not null,
    offset_no bigint not null,
    index_no bigint not null,
    content text,
    fault text,
    primary key (id, topic, incarnation, partition_no, offset_no, index_no)
);
insert into evidence_of (id, topic, incarnation, partition_no, offset_no, index_no, content, fault)
    select id, topic, 0, partition_no, offset_no, index_no, content, fault from evidence;
drop table evidence;
alter table evidence_of rename to evidence;

-- References say themselves now which incarnation they are of.
alter table topics drop column accepted_seq;
