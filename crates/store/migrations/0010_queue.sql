-- Bodies are kilobytes and are read a page at a time; the queue's rows are walked by the hundred thousand. Apart from each other,
-- walking reads a tenth of the pages. The key is the number with which a row appeared, which grows at its end.
create table alert_bodies (
    created_seq bigint not null primary key,
    body text not null
);
insert into alert_bodies (created_seq, body) select created_seq, body from alerts;
alter table alerts add column body_bytes bigint not null default 0;
update alerts set body_bytes = octet_length(body);
alter table alerts drop column body;
-- Found by words now, see the search of this database.
alter table alerts drop column search;

-- The ATT&CK techniques that an alert's rule names, in order, with blanks between them; and which are in which set, each with the
-- one that it is a part of.
alter table alerts add column techniques text not null default '';
create table technique_sets (
    technique text not null,
    techniques text not null,
    primary key (technique, techniques)
);

-- A row that nobody has touched is in none of these.
drop index alerts_status;
create index alerts_handled on alerts (status, crossed_at, created_seq)
    where covered_by is null and status <> 'new';
create index alerts_owned on alerts (assignee, crossed_at, created_seq)
    where covered_by is null and assignee is not null;
create index alerts_verdicts on alerts (rule_id, entity_value, entity_type, disposition, closed_at)
    where covered_by is null and withdrawn is null and status = 'closed';

create index alerts_techniques on alerts (techniques, crossed_at, created_seq)
    where covered_by is null and techniques <> '';
