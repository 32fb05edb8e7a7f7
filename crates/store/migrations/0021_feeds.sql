-- How far those who are told of everything have been told.
create table feeds (
    connector text not null primary key,
    position bigint not null
);
