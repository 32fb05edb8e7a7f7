-- Evidence that is there and cannot be decoded says why; it was stored as an empty text before.
alter table evidence add column fault text;
update evidence set content = null, fault = 'the record could not be decoded' where content = '';

-- Who asked to accept the topic as a new incarnation, until the running engine has done so; and the change that accepted
-- the present one: evidence published before it is of records that are gone.
alter table topics add column asked_by text;
alter table topics add column accepted_seq bigint;
