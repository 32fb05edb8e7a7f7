-- Kept hunts that are run again and again and raise alerts.
create table hunt_schedules (
    id bigint not null primary key,
    hunt_id bigint not null,
    -- Microseconds, as all times and lengths here.
    every bigint not null,
    severity bigint not null,
    title text not null,
    summary text,
    -- The column that says whom a row is about; null: nobody.
    entity text,
    most bigint not null,
    paused bigint not null,
    created_by text not null,
    created_at bigint not null,
    -- Where the window begins that is looked at next: those before it are done, or passed over.
    next_from bigint not null,
    -- How often that window was begun.
    tries bigint not null,
    -- The run that ended last.
    ran_at bigint,
    ran_from bigint,
    ran_until bigint,
    took bigint,
    found bigint,
    more bigint,
    raised bigint,
    bytes_read bigint,
    complete_through bigint,
    -- Why it does not get on, and since when.
    fault text,
    fault_since bigint,
    -- Windows that nobody looked at.
    passed bigint not null,
    passed_from bigint,
    passed_until bigint
);
create unique index hunt_schedules_hunt on hunt_schedules (hunt_id);
insert into desk_numbers (kind, last) values ('hunt_schedule', 0);
