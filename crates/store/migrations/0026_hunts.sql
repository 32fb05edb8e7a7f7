-- Hunts that people keep by name; what was asked when, and what came of it, is in audit.
create table saved_hunts (
    id bigint not null primary key,
    owner text not null,
    name text not null,
    sql text not null,
    -- How far back it looks, as `24h`; null: as far as there is something.
    span text,
    shared bigint not null,
    created_at bigint not null
);
create unique index saved_hunts_name on saved_hunts (owner, name);
create index saved_hunts_shared on saved_hunts (name, id) where shared = 1;
insert into desk_numbers (kind, last) values ('hunt', 0), ('saved_hunt', 0);
