-- The store in SQLite, version 1. Times are milliseconds of the store's clock.
CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE controller (
  name TEXT PRIMARY KEY,
  is_online INTEGER NOT NULL,
  last_heartbeat_at INTEGER NOT NULL
) STRICT;

CREATE TABLE node (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  cluster TEXT NOT NULL, -- '' for nodes of no cluster
  name TEXT NOT NULL,
  controller TEXT, -- NULL: not connected
  connection_id INTEGER NOT NULL,
  version TEXT NOT NULL,
  git_hash TEXT NOT NULL,
  ip TEXT NOT NULL,
  UNIQUE (cluster, name)
) STRICT;

CREATE TABLE drone (
  id INTEGER PRIMARY KEY REFERENCES node (id),
  pool TEXT NOT NULL,
  is_ready INTEGER NOT NULL,
  is_draining INTEGER NOT NULL,
  last_heartbeat_at INTEGER, -- NULL: none since it connected
  last_local_time INTEGER    -- the drone's clock at that heartbeat
) STRICT;

CREATE TABLE backend (
  id TEXT PRIMARY KEY,
  cluster TEXT NOT NULL,
  drone_id INTEGER NOT NULL REFERENCES drone (id),
  key_namespace TEXT NOT NULL,
  key_name TEXT NOT NULL,
  key_tag TEXT NOT NULL,
  status INTEGER NOT NULL,
  state TEXT NOT NULL, -- JSON
  state_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  last_keepalive_at INTEGER NOT NULL,
  lifetime_ends_at INTEGER,
  max_idle_ms INTEGER,
  subdomain TEXT,
  static_token TEXT UNIQUE
) STRICT;
CREATE INDEX backend_alive ON backend (drone_id) WHERE status < 70;
CREATE INDEX backend_ended ON backend (state_at) WHERE status = 70;

-- At most one backend for a key: the primary key of this table is what guarantees it.
CREATE TABLE backend_key (
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  tag TEXT NOT NULL,
  backend TEXT NOT NULL UNIQUE REFERENCES backend (id) ON DELETE CASCADE,
  expires_at INTEGER NOT NULL,
  fencing_token INTEGER NOT NULL,
  PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE backend_state (
  id INTEGER PRIMARY KEY,
  backend TEXT NOT NULL REFERENCES backend (id) ON DELETE CASCADE,
  state TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX backend_state_of ON backend_state (backend);

CREATE TABLE action (
  sequence INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  backend TEXT NOT NULL REFERENCES backend (id) ON DELETE CASCADE,
  drone_id INTEGER NOT NULL,
  kind TEXT NOT NULL, -- spawn, soft, hard
  message TEXT NOT NULL,
  acked_at INTEGER
) STRICT;
CREATE INDEX action_pending ON action (drone_id, sequence) WHERE acked_at IS NULL;
CREATE INDEX action_of ON action (backend);

CREATE TABLE token (
  token TEXT PRIMARY KEY,
  secret_token TEXT NOT NULL,
  backend TEXT NOT NULL REFERENCES backend (id) ON DELETE CASCADE,
  user TEXT,
  auth TEXT NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX token_of ON token (backend, user);
CREATE INDEX token_expiry ON token (expires_at);

CREATE TABLE certificate (
  cluster TEXT PRIMARY KEY,
  node_id INTEGER, -- holder of the lease
  lease_ends_at INTEGER NOT NULL,
  txt_value TEXT
) STRICT, WITHOUT ROWID;
