-- Where a point of an alert's course stands in commit order, what was measured then, and how the body before it differs from its
-- own: from the newest body any earlier one is made. Of points from before this step only the newest's place is known.
alter table alert_revisions add column seq bigint not null default 0;
alter table alert_revisions add column measured text;
alter table alert_revisions add column back text;
update alert_revisions set seq = coalesce((select a.revision_seq from alerts a
    where a.id = alert_revisions.id and a.revision = alert_revisions.revision), 0);

-- Whom a row of the queue concerns: the entity it is about, those of its key, of the episodes below it, of its evidence. Rows
-- are named by the number with which they appeared, which is an eighth of an id and rises.
create table alert_entities (
    value text not null,
    kind text not null,
    created_seq bigint not null,
    role bigint not null,
    primary key (value, kind, created_seq)
);
create index alert_entities_row on alert_entities (created_seq);
insert into alert_entities (value, kind, created_seq, role)
    select entity_value, entity_type, created_seq, 0 from alerts
    where entity_value is not null and entity_type is not null;

-- The newest seq before the first change of a minute, so that a time can be told as a seq.
create table minutes (
    minute bigint not null primary key,
    seq bigint not null
);
