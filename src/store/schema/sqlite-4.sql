-- To version 4: what drones have, and what backends ask for.
ALTER TABLE drone ADD COLUMN memory_total_bytes INTEGER; -- NULL, as the others: it does not tell
ALTER TABLE drone ADD COLUMN memory_allocatable_bytes INTEGER;
ALTER TABLE drone ADD COLUMN memory_reserved_bytes INTEGER;
ALTER TABLE drone ADD COLUMN memory_available_bytes INTEGER;
ALTER TABLE drone ADD COLUMN cpu_total_millis INTEGER;
ALTER TABLE drone ADD COLUMN cpu_allocatable_millis INTEGER;
ALTER TABLE drone ADD COLUMN cpu_reserved_millis INTEGER;
ALTER TABLE drone ADD COLUMN load_millis INTEGER;
ALTER TABLE drone ADD COLUMN last_fencing_token INTEGER; -- the greatest that it has taken an order with
ALTER TABLE drone ADD COLUMN backend_count INTEGER; -- as it reported, or as counted at its heartbeat

ALTER TABLE backend ADD COLUMN memory_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE backend ADD COLUMN cpu_millis INTEGER NOT NULL DEFAULT 0;
