-- One text for SQLite and PostgreSQL: text, bigint (booleans too) and bytea only; times are microseconds.

-- The single row that orders everything: the active engine's epoch and the newest seq.
create table engine (
    id bigint not null primary key check (id = 1),
    epoch bigint not null,
    seq bigint not null,
    oldest_change bigint not null
);
insert into engine (id, epoch, seq, oldest_change) values (1, 0, 0, 0);

create table meta (
    name text not null primary key,
    value bytea not null
);

create table topics (
    name text not null primary key,
    incarnation bigint not null
);

create table changes (
    seq bigint not null primary key,
    kind text not null,
    id text not null
);

-- Alerts and notices: one queue.
create table alerts (
    id text not null primary key,
    state text not null,
    revision bigint not null,
    rule_id text not null,
    rule_title text not null,
    severity bigint not null,
    group_key text not null,
    entity_type text,
    entity_value text,
    first_seen bigint not null,
    crossed_at bigint not null,
    last_seen bigint not null,
    covers_until bigint not null,
    event_count bigint not null,
    summary text not null,
    search text not null,
    body text not null,
    evidence_pending bigint not null,
    predecessor text,
    successor text,
    covered_by text,
    status text not null,
    assignee text,
    disposition text,
    triage_version bigint not null,
    recurred bigint not null,
    closed_severity bigint,
    closed_count bigint,
    closed_here bigint not null,
    created_at bigint not null,
    created_seq bigint not null,
    revision_seq bigint not null,
    triage_seq bigint not null,
    seq bigint not null
);
create index alerts_crossed on alerts (crossed_at, id) where covered_by is null;
create index alerts_last_seen on alerts (last_seen, crossed_at, id) where covered_by is null;
create index alerts_severity on alerts (severity, crossed_at, id) where covered_by is null;
create index alerts_count on alerts (event_count, crossed_at, id) where covered_by is null;
create index alerts_created on alerts (created_seq, crossed_at, id) where covered_by is null;
create index alerts_open on alerts (crossed_at, id) where covered_by is null and status <> 'closed';
create index alerts_status on alerts (status, crossed_at, id) where covered_by is null;
create index alerts_rule on alerts (rule_id, crossed_at, id) where covered_by is null;
create index alerts_entity on alerts (entity_value, crossed_at, id) where covered_by is null;
create index alerts_episode on alerts (rule_id, group_key, crossed_at);
create index alerts_covered on alerts (covered_by) where covered_by is not null;
create index alerts_pending on alerts (seq) where evidence_pending = 1;

create table alert_sources (
    id text not null references alerts (id),
    source text not null,
    primary key (id, source)
);

create table alert_revisions (
    id text not null references alerts (id),
    revision bigint not null,
    last_seen bigint not null,
    event_count bigint not null,
    severity bigint not null,
    stored_at bigint not null,
    primary key (id, revision)
);

create table evidence (
    id text not null references alerts (id),
    topic text not null,
    partition_no bigint not null,
    offset_no bigint not null,
    index_no bigint not null,
    content text,
    primary key (id, topic, partition_no, offset_no, index_no)
);

create table audit (
    seq bigint not null primary key,
    at bigint not null,
    actor text not null,
    action text not null,
    target text not null,
    before text,
    after text
);
create index audit_target on audit (target, seq);

create table dead_letters (
    seq bigint not null,
    topic text not null,
    incarnation bigint not null,
    partition_no bigint not null,
    offset_no bigint not null,
    index_no bigint not null,
    source text not null,
    reason text not null,
    hour bigint not null,
    ts_log bigint,
    stored_at bigint not null,
    detail text not null,
    payload bytea not null,
    primary key (topic, incarnation, partition_no, offset_no, index_no)
);
create unique index dead_letters_seq on dead_letters (seq);
create index dead_letters_source on dead_letters (source, seq);

-- How many there are, by source, reason, hour and partition; past the cap offsets only. `top` is the highest seen.
create table dead_letter_counts (
    source text not null,
    reason text not null,
    hour bigint not null,
    topic text not null,
    incarnation bigint not null,
    partition_no bigint not null,
    kept bigint not null,
    folded bigint not null,
    first_offset bigint,
    last_offset bigint,
    top_offset bigint not null,
    top_index bigint not null,
    primary key (source, reason, hour, topic, incarnation, partition_no)
);
create index dead_letter_counts_hour on dead_letter_counts (hour);

create table placements (
    topic text not null,
    incarnation bigint not null,
    partition_no bigint not null,
    offset_no bigint not null,
    flags bigint not null,
    placed_at bigint not null,
    primary key (topic, incarnation, partition_no, offset_no, flags)
);

create table rule_versions (
    version text not null,
    in_force_from bigint not null,
    content text not null,
    primary key (in_force_from, version)
);

create table lost (
    topic text not null,
    incarnation bigint not null,
    partition_no bigint not null,
    from_offset bigint not null,
    to_offset bigint not null,
    noticed_at bigint not null,
    primary key (topic, incarnation, partition_no, from_offset)
);

create table health (
    event_key text not null primary key,
    at bigint not null,
    kind text not null,
    severity bigint not null,
    message text not null,
    seq bigint not null
);
create unique index health_seq on health (seq);

create table checkpoints (
    key_group bigint not null primary key,
    state bytea not null,
    checksum bytea not null
);

create table tokens (
    hash bytea not null primary key,
    name text not null,
    role text not null,
    created_at bigint not null,
    revoked_at bigint,
    last_used_at bigint
);
create unique index tokens_in_force on tokens (name) where revoked_at is null;
