-- How far playbooks have looked at alerts and notices (-1: never), what nothing may hit, and whether nothing is done at all.
create table response (
    id bigint not null primary key check (id = 1),
    position bigint not null,
    kill_switch bigint not null,
    never_block text not null,
    version bigint not null
);
insert into response (id, position, kill_switch, never_block, version) values (1, -1, 0, '[]', 0);

-- What playbooks and people propose, and what became of it. Steps are entries of audit (target `action:7`).
create table actions (
    id bigint not null primary key,
    proposal_id text not null,
    state text not null,
    playbook text not null,
    step text not null,
    deed text not null,
    -- Of a countermeasure, what it is; and of what has one, the target as people read it.
    action text,
    target text,
    alert_id text not null,
    rule_id text not null,
    severity bigint not null,
    proposal text not null,
    reasons text not null,
    proposer text,
    approvals text not null,
    people bigint not null,
    -- The gate's order, once it was given, when that was, and until when it stands.
    given_order text,
    acted_at bigint,
    until bigint,
    effect text,
    effect_at bigint,
    proposed_at bigint not null,
    changed_at bigint not null,
    version bigint not null,
    seq bigint not null
);
create unique index actions_proposal on actions (proposal_id);
create index actions_state on actions (state, id);
create index actions_seq on actions (seq);
create index actions_alert on actions (alert_id, id);
create index actions_acted on actions (acted_at, rule_id) where acted_at is not null;
create index actions_target on actions (target, action) where acted_at is not null;

-- What is to be told, by each connector for itself. `next_at` is when it is tried.
create table deliveries (
    action_id bigint not null references actions (id),
    connector text not null,
    state text not null,
    tries bigint not null,
    next_at bigint not null,
    detail text,
    changed_at bigint not null,
    primary key (action_id, connector)
);
create index deliveries_due on deliveries (connector, next_at) where state = 'due';
create index deliveries_dead on deliveries (connector, changed_at) where state = 'dead';

-- What programs and devices that cannot be asked have said yes to.
create table held (
    connector text not null,
    action text not null,
    target text not null,
    until bigint not null,
    primary key (connector, action, target)
);
