-- To version 5: for how long leases of drones were granted.
ALTER TABLE drone ADD COLUMN lease_expire_ms INTEGER; -- after a renewal; NULL: it was not said
