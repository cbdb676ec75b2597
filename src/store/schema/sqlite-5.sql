-- To version 5: for how long leases of drones were granted, where drones' backends are, how long nodes are
-- away; and lists find pages of what is in one state, by cluster, drone or key.
ALTER TABLE drone ADD COLUMN lease_expire_ms INTEGER; -- after a renewal; NULL: it was not said
ALTER TABLE node ADD COLUMN seen_at INTEGER NOT NULL DEFAULT 0; -- when it came or went last
ALTER TABLE node ADD COLUMN backend_ip TEXT; -- registered by a drone; NULL: none
ALTER TABLE node ADD COLUMN first_port INTEGER NOT NULL DEFAULT 0;
ALTER TABLE node ADD COLUMN last_port INTEGER NOT NULL DEFAULT 0;
UPDATE node SET seen_at = coalesce((SELECT value FROM meta WHERE name = 'clock_ms'), 0);
CREATE INDEX node_address ON node (backend_ip) WHERE backend_ip IS NOT NULL;
CREATE INDEX node_away ON node (seen_at);
CREATE INDEX backend_of_cluster ON backend (cluster, status, id);
CREATE INDEX backend_of_drone ON backend (drone_id, status, id);
CREATE INDEX backend_of_key ON backend (key_name, status, id);
CREATE INDEX backend_key_of_name ON backend_key (name, namespace);
