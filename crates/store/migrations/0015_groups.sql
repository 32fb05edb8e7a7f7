-- What is not closed: grouped by anything but the entity, and by the entity, without reading the rows; what a snooze hides is told
-- apart in the index, too.
create index alerts_open_facets on alerts (rule_id, techniques, severity, status, state, snooze_id)
    where covered_by is null and status <> 'closed';
create index alerts_open_entity on alerts (entity_value, entity_type, severity, snooze_id, status)
    where covered_by is null and status <> 'closed';
