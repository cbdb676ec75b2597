-- To version 7: lists find pages of what is in one state, by cluster, drone or key.
CREATE INDEX backend_of_cluster ON backend (cluster, status, id);
DROP INDEX backend_of_drone;
CREATE INDEX backend_of_drone ON backend (drone_id, status, id);
CREATE INDEX backend_of_key ON backend (key_name, status, id);
CREATE INDEX backend_key_of_name ON backend_key (name, namespace);
