-- Version 3: leases of whole drones.
ALTER TABLE drone ADD COLUMN lease_epoch INTEGER; -- grows when it begins or is broken; NULL: never had one
ALTER TABLE drone ADD COLUMN lease_renewals INTEGER NOT NULL DEFAULT 0; -- grows with each
ALTER TABLE drone ADD COLUMN is_lease_granted INTEGER NOT NULL DEFAULT 0; -- the drone holds lease_epoch
ALTER TABLE drone ADD COLUMN journal TEXT; -- of the process that it was granted to

-- NULL: the key has a lease of its own. Else it is free once its drone has another epoch.
ALTER TABLE backend ADD COLUMN lease_epoch INTEGER;
ALTER TABLE backend_key ADD COLUMN lease_epoch INTEGER;
ALTER TABLE backend_key ADD COLUMN drone_id INTEGER;
UPDATE backend_key SET drone_id = (SELECT drone_id FROM backend WHERE id = backend);

DROP INDEX backend_alive;
CREATE INDEX backend_alive ON backend (drone_id, lease_epoch) WHERE status < 70;
