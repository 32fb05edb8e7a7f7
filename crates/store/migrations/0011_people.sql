-- People and their sessions. Of a session only the hash of its secret is kept, of a password its argon2id string.
create table users (
    name text not null primary key,
    role text not null,
    -- Null for who signs in at an identity provider.
    password text,
    issuer text,
    subject text,
    totp_secret bytea,
    -- The newest time step whose code was taken: a code is good once.
    totp_step bigint not null default 0,
    created_at bigint not null,
    disabled_at bigint,
    last_signed_in_at bigint
);
create unique index users_by_subject on users (issuer, subject) where subject is not null;

create table sessions (
    hash bytea not null primary key,
    -- Names it in lists; tells nothing of its secret.
    id text not null unique,
    user_name text not null references users (name),
    method text not null,
    address text not null,
    agent text not null,
    created_at bigint not null,
    last_used_at bigint not null
);
create index sessions_by_user on sessions (user_name, created_at);

-- Rises with each change of tokens, users and sessions, so that who follows them reads one row while nothing changes.
create table access_version (
    id bigint not null primary key,
    version bigint not null
);
insert into access_version (id, version) values (1, 1);
