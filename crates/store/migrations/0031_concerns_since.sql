-- Since which place in commit order a row is known to concern an entity: what its evidence names comes after the row.
alter table alert_entities add column seq bigint not null default 0;
