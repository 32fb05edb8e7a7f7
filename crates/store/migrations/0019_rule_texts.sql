-- What each version of a rule said, for alerts that it raised: from when on it was in force, the last time.
create table rule_texts (
    rule_id text not null,
    version text not null,
    text text not null,
    stored_at bigint not null,
    primary key (rule_id, version)
);
create index rule_texts_age on rule_texts (stored_at);
