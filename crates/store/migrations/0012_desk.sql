-- Numbers that people say aloud; none is given twice, also after retention.
create table desk_numbers (
    kind text not null primary key,
    last bigint not null
);
insert into desk_numbers (kind, last) values ('case', 0), ('snooze', 0), ('view', 0);

-- A case is ids of alerts (alerts.case_id), notes and actions (both in audit), and what is said of it as a whole.
create table cases (
    id bigint not null primary key,
    title text not null,
    status text not null,
    assignee text,
    disposition text,
    -- The highest that any of its alerts has had; it never falls. Null: it never had an alert.
    severity bigint,
    severity_floor bigint,
    version bigint not null,
    notes bigint not null,
    created_by text not null,
    created_at bigint not null,
    changed_at bigint not null,
    closed_at bigint,
    merged_into bigint,
    split_from bigint,
    seq bigint not null
);
create index cases_status on cases (status, id);
create index cases_assignee on cases (assignee, id) where assignee is not null;
create index cases_merged on cases (merged_into) where merged_into is not null;
create index cases_closed on cases (closed_at, id) where closed_at is not null;
alter table alerts add column case_id bigint;
create index alerts_case on alerts (case_id, created_seq) where case_id is not null;

-- A pair of rule and entity that stays out of the queue. `settled` is 0 while rows are left to hide or to bring back.
create table snoozes (
    id bigint not null primary key,
    rule_id text not null,
    rule_title text not null,
    entity_type text not null,
    entity_value text not null,
    severity bigint not null,
    reason text not null,
    created_by text not null,
    created_at bigint not null,
    until bigint not null,
    ended_at bigint,
    ended_by text,
    settled bigint not null
);
create unique index snoozes_in_force on snoozes (rule_id, entity_type, entity_value) where ended_at is null;
create index snoozes_due on snoozes (until) where ended_at is null;
create index snoozes_unsettled on snoozes (id) where settled = 0;
create index snoozes_ended on snoozes (ended_at, id) where ended_at is not null;
alter table alerts add column snooze_id bigint;
create index alerts_snoozed on alerts (snooze_id, created_seq) where snooze_id is not null;
-- The queue as it is looked at: without it, a page walks over all that is hidden.
create index alerts_awake on alerts (crossed_at, created_seq)
    where covered_by is null and status <> 'closed' and snooze_id is null;

create table views (
    id bigint not null primary key,
    owner text not null,
    name text not null,
    query text not null,
    shared bigint not null,
    created_at bigint not null
);
create unique index views_name on views (owner, name);
create index views_shared on views (name, id) where shared = 1;

-- What was answered to a request with a key, so that the same request again is answered and not carried out.
create table kept_answers (
    caller text not null,
    name text not null,
    request bytea not null,
    answer text not null,
    at bigint not null,
    primary key (caller, name)
);
create index kept_answers_at on kept_answers (at);
create index kept_answers_caller on kept_answers (caller, at);

create index audit_at on audit (at, seq);
create index audit_actor on audit (actor, at, seq);
create index audit_action on audit (action, at, seq);
