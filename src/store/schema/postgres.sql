-- The store in PostgreSQL, version 1. Times are milliseconds since 1970 by the database's clock;
-- no machine compares them with its own. Foreign keys are where rows are deleted: a reference to a
-- row that many transactions share (a drone, the backend of a token) would lock it in each of them.
-- Names are compared byte by byte: in another order, on a standby with another library, the indexes
-- would not find them.

CREATE FUNCTION now_ms() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint $$;
COMMENT ON FUNCTION now_ms IS 'The store''s time: when the statement began.';

CREATE TABLE meta (
  name text COLLATE "C" PRIMARY KEY,
  value bigint NOT NULL
);
COMMENT ON TABLE meta IS 'Facts about this database.';
COMMENT ON COLUMN meta.name IS
  'schema_version. system_identifier, timeline and meta_oid: which server it was last, and which restored '
  'copy of this table. While it recovers from having become another one: recovering_since, when that was '
  'seen; recovering_after, the greatest sequence of an order then.';
COMMENT ON COLUMN meta.value IS 'The value of it.';
INSERT INTO meta VALUES ('schema_version', 1);

CREATE SEQUENCE fencing_token AS bigint;
COMMENT ON SEQUENCE fencing_token IS
  'Fencing tokens: greater with every acquisition of a key, never before the time.';

CREATE TABLE controller (
  name text COLLATE "C" PRIMARY KEY,
  is_online boolean NOT NULL,
  last_heartbeat_at bigint NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE controller IS 'Controllers that have ever served.';
COMMENT ON COLUMN controller.name IS 'co-...';
COMMENT ON COLUMN controller.is_online IS 'False once it has stopped in order.';
COMMENT ON COLUMN controller.last_heartbeat_at IS 'When it last said that it runs.';

CREATE TABLE node (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text NOT NULL,
  cluster text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  controller text COLLATE "C",
  controller_url text,
  connection_id bigint NOT NULL,
  version text NOT NULL,
  git_hash text NOT NULL,
  ip text NOT NULL,
  seen_at bigint NOT NULL,
  backend_ip text COLLATE "C",
  first_port bigint NOT NULL DEFAULT 0,
  last_port bigint NOT NULL DEFAULT 0,
  UNIQUE (cluster, name)
);
COMMENT ON TABLE node IS 'Drones, proxies and DNS servers that have connected, until cleanup.';
COMMENT ON COLUMN node.id IS 'How other tables name it.';
COMMENT ON COLUMN node.kind IS 'Drone, Proxy or AcmeDnsServer.';
COMMENT ON COLUMN node.cluster IS 'Empty for nodes of no cluster.';
COMMENT ON COLUMN node.name IS 'dr-..., px-..., ns-...: its own in its cluster.';
COMMENT ON COLUMN node.controller IS 'Which one it is connected to; NULL for none.';
COMMENT ON COLUMN node.controller_url IS 'Under which other controllers reach that one; NULL: they do not.';
COMMENT ON COLUMN node.connection_id IS 'Random: which connection is the present one.';
COMMENT ON COLUMN node.version IS 'Plane''s version that it runs.';
COMMENT ON COLUMN node.git_hash IS 'The commit that its program was built from.';
COMMENT ON COLUMN node.ip IS 'Address that it connected from.';
COMMENT ON COLUMN node.seen_at IS 'When it came or went last.';
COMMENT ON COLUMN node.backend_ip IS
  'Where proxies reach the backends of a drone, as it has registered; NULL: it has not.';
COMMENT ON COLUMN node.first_port IS 'The first of its ports there.';
COMMENT ON COLUMN node.last_port IS 'The last one.';
CREATE INDEX node_of ON node (controller);
CREATE INDEX node_address ON node (backend_ip) WHERE backend_ip IS NOT NULL;
CREATE INDEX node_away ON node (seen_at);

CREATE TABLE drone (
  id bigint PRIMARY KEY REFERENCES node (id),
  cluster text COLLATE "C" NOT NULL,
  pool text COLLATE "C" NOT NULL,
  is_ready boolean NOT NULL,
  is_draining boolean NOT NULL,
  last_heartbeat_at bigint,
  last_local_time bigint,
  lease_epoch bigint,
  lease_renewals bigint NOT NULL DEFAULT 0,
  is_lease_granted boolean NOT NULL DEFAULT false,
  lease_expire_ms bigint,
  has_key_leases boolean NOT NULL DEFAULT false,
  is_reconciled boolean NOT NULL DEFAULT true,
  journal text,
  memory_total_bytes bigint,
  memory_allocatable_bytes bigint,
  memory_reserved_bytes bigint,
  memory_available_bytes bigint,
  cpu_total_millis bigint,
  cpu_allocatable_millis bigint,
  cpu_reserved_millis bigint,
  load_millis bigint,
  last_fencing_token bigint,
  backend_count bigint
) WITH (fillfactor = 50);
COMMENT ON TABLE drone IS 'Nodes that run backends. One row and one write for each renewal.';
COMMENT ON COLUMN drone.id IS 'Its node.';
COMMENT ON COLUMN drone.cluster IS 'Its node''s, for placement.';
COMMENT ON COLUMN drone.pool IS 'Empty for the default pool.';
COMMENT ON COLUMN drone.is_ready IS 'It has connected and may get backends.';
COMMENT ON COLUMN drone.is_draining IS 'It gets no new backends.';
COMMENT ON COLUMN drone.last_heartbeat_at IS 'When it last spoke; NULL: not since it connected.';
COMMENT ON COLUMN drone.last_local_time IS 'Its own clock then, in milliseconds.';
COMMENT ON COLUMN drone.lease_epoch IS
  'Grows when its lease is granted anew or broken; NULL: its keys are leased one by one.';
COMMENT ON COLUMN drone.lease_renewals IS
  'Grows with each renewal: a controller that sees the same number for long breaks the lease.';
COMMENT ON COLUMN drone.is_lease_granted IS 'The drone holds the present epoch: not broken since.';
COMMENT ON COLUMN drone.lease_expire_ms IS
  'How long nobody may break the lease after the last renewal: what its controller said; NULL: nothing.';
COMMENT ON COLUMN drone.has_key_leases IS
  'It last connected as one that leases its keys one by one, and not all of them with one lease.';
COMMENT ON COLUMN drone.is_reconciled IS
  'False from when the server became another one until the drone has told all that it runs and all of it '
  'was known here.';
COMMENT ON COLUMN drone.journal IS
  'Which journal the lease was granted to: another process of the same name has another one.';
COMMENT ON COLUMN drone.memory_total_bytes IS
  'Memory that it has, as it last reported; NULL: not since it connected.';
COMMENT ON COLUMN drone.memory_allocatable_bytes IS
  'Memory that its backends may ask for, together: what it has times its factor.';
COMMENT ON COLUMN drone.memory_available_bytes IS 'Of it free for use, as it last reported.';
COMMENT ON COLUMN drone.memory_reserved_bytes IS 'Asked for by its backends, as it last reported.';
COMMENT ON COLUMN drone.cpu_total_millis IS 'Thousandths of CPUs that it has.';
COMMENT ON COLUMN drone.cpu_allocatable_millis IS
  'Thousandths of CPUs that its backends may ask for, together.';
COMMENT ON COLUMN drone.cpu_reserved_millis IS
  'Thousandths of CPUs asked for by its backends, as it last reported.';
COMMENT ON COLUMN drone.load_millis IS 'Load average of a minute in thousandths; NULL: unknown.';
COMMENT ON COLUMN drone.last_fencing_token IS
  'The greatest of an order that it has taken: what was placed with a greater one is not in its report.';
COMMENT ON COLUMN drone.backend_count IS
  'Backends that have not ended, as it last reported, or as counted at its last heartbeat.';
CREATE INDEX drone_of ON drone (cluster, pool);

CREATE TABLE backend (
  id text COLLATE "C" PRIMARY KEY,
  cluster text COLLATE "C" NOT NULL,
  drone_id bigint NOT NULL,
  lease_epoch bigint,
  key_namespace text COLLATE "C" NOT NULL,
  key_name text COLLATE "C" NOT NULL,
  key_tag text COLLATE "C" NOT NULL,
  status smallint NOT NULL,
  state text NOT NULL,
  state_at bigint NOT NULL,
  created_at bigint NOT NULL,
  last_keepalive_at bigint NOT NULL,
  lifetime_ends_at bigint,
  max_idle_ms bigint,
  subdomain text COLLATE "C",
  static_token text COLLATE "C",
  memory_bytes bigint NOT NULL DEFAULT 0,
  cpu_millis bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
COMMENT ON TABLE backend IS 'Backends, also those that have ended, until cleanup.';
COMMENT ON COLUMN backend.id IS 'Its name.';
COMMENT ON COLUMN backend.cluster IS 'Which cluster''s proxies serve it.';
COMMENT ON COLUMN backend.drone_id IS 'Where it was placed.';
COMMENT ON COLUMN backend.lease_epoch IS
  'The drone''s when it was placed; NULL where its key is leased by itself.';
COMMENT ON COLUMN backend.key_namespace IS 'Namespace of its key.';
COMMENT ON COLUMN backend.key_name IS 'Name of its key.';
COMMENT ON COLUMN backend.key_tag IS 'Tag of its key: a connect with another one is refused.';
COMMENT ON COLUMN backend.status IS
  'Its state in order: 10 scheduled, 20 loading, 30 starting, 40 waiting, 50 ready, '
  '60 terminating, 65 hard-terminating, 70 terminated.';
COMMENT ON COLUMN backend.state IS 'The state as JSON.';
COMMENT ON COLUMN backend.state_at IS 'Since when.';
COMMENT ON COLUMN backend.created_at IS 'When it was placed.';
COMMENT ON COLUMN backend.last_keepalive_at IS 'When it was last in use, or became ready.';
COMMENT ON COLUMN backend.lifetime_ends_at IS 'When it is to end; NULL: no limit.';
COMMENT ON COLUMN backend.max_idle_ms IS 'It is to end when unused for so long; NULL: no limit.';
COMMENT ON COLUMN backend.subdomain IS 'It is served below it; NULL for none.';
COMMENT ON COLUMN backend.static_token IS 'The one token of all its users; NULL: each has one.';
COMMENT ON COLUMN backend.memory_bytes IS 'Memory that it asked for; 0: none.';
COMMENT ON COLUMN backend.cpu_millis IS 'Thousandths of CPUs that it asked for; 0: none.';
CREATE INDEX backend_alive ON backend (drone_id, lease_epoch) WHERE status < 70;
CREATE UNIQUE INDEX backend_static_token ON backend (static_token) WHERE static_token IS NOT NULL;
CREATE INDEX backend_ended ON backend (state_at) WHERE status = 70;
-- For lists: pages in the order of ids of what is in one state. Ids have another operator class here, so
-- that no other index has this order: those who plan cannot take it for a cheaper one.
CREATE INDEX backend_of_cluster ON backend (cluster, status, id text_pattern_ops);
CREATE INDEX backend_of_drone ON backend (drone_id, status, id text_pattern_ops);
CREATE INDEX backend_of_key ON backend (key_name, status, id text_pattern_ops);

CREATE TABLE backend_key (
  namespace text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  tag text COLLATE "C" NOT NULL,
  backend text COLLATE "C" NOT NULL UNIQUE REFERENCES backend (id) ON DELETE CASCADE,
  drone_id bigint NOT NULL,
  lease_epoch bigint,
  expires_at bigint NOT NULL,
  fencing_token bigint NOT NULL,
  PRIMARY KEY (namespace, name)
) WITH (fillfactor = 70);
COMMENT ON TABLE backend_key IS
  'Held keys. At most one backend for a key: the primary key of this table is what guarantees it.';
COMMENT ON COLUMN backend_key.namespace IS 'Of the key.';
COMMENT ON COLUMN backend_key.name IS 'Of the key.';
COMMENT ON COLUMN backend_key.tag IS 'Of the key.';
COMMENT ON COLUMN backend_key.backend IS 'Who holds it.';
COMMENT ON COLUMN backend_key.drone_id IS 'The backend''s drone, whose lease covers the key.';
COMMENT ON COLUMN backend_key.lease_epoch IS
  'The drone''s when the key was acquired: it is broken once the drone''s is greater. NULL: expires_at '
  'counts.';
COMMENT ON COLUMN backend_key.expires_at IS 'When the key is free unless renewed, if lease_epoch is NULL.';
COMMENT ON COLUMN backend_key.fencing_token IS 'Greater than that of each earlier acquisition.';
CREATE INDEX backend_key_of_name ON backend_key (name, namespace);

CREATE TABLE backend_state (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  backend text COLLATE "C" NOT NULL REFERENCES backend (id) ON DELETE CASCADE,
  state text NOT NULL,
  created_at bigint NOT NULL,
  origin text DEFAULT current_setting('plane.origin', true)
);
COMMENT ON TABLE backend_state IS
  'The history of backends, and by its ids the log in which controllers read what others did.';
COMMENT ON COLUMN backend_state.id IS 'Order of arrival; numbers are missing where a transaction failed.';
COMMENT ON COLUMN backend_state.backend IS 'Whose state it is.';
COMMENT ON COLUMN backend_state.state IS 'The state as JSON.';
COMMENT ON COLUMN backend_state.created_at IS 'When it was stored.';
COMMENT ON COLUMN backend_state.origin IS 'Which controller''s process stored it: random, so that it skips its own.';
CREATE INDEX backend_state_of ON backend_state (backend);

CREATE TABLE action (
  sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text COLLATE "C" NOT NULL UNIQUE,
  backend text COLLATE "C" NOT NULL REFERENCES backend (id) ON DELETE CASCADE,
  drone_id bigint NOT NULL,
  kind text NOT NULL,
  message text NOT NULL,
  acked_at bigint,
  origin text DEFAULT current_setting('plane.origin', true)
) WITH (fillfactor = 70);
COMMENT ON TABLE action IS
  'Orders to drones, and by their sequence the log in which controllers read what others ordered.';
COMMENT ON COLUMN action.sequence IS 'Order of arrival; numbers are missing where a transaction failed.';
COMMENT ON COLUMN action.id IS 'ak-...: drones know by it which orders they had.';
COMMENT ON COLUMN action.backend IS 'What the order is about.';
COMMENT ON COLUMN action.drone_id IS 'Who gets it.';
COMMENT ON COLUMN action.kind IS 'spawn, soft or hard.';
COMMENT ON COLUMN action.message IS 'The order as JSON, as the drone''s socket has it.';
COMMENT ON COLUMN action.acked_at IS 'When the drone had it, or it was void; NULL: not yet.';
COMMENT ON COLUMN action.origin IS 'Which controller''s process stored it: random, so that it skips its own.';
CREATE INDEX action_pending ON action (drone_id, sequence) WHERE acked_at IS NULL;
CREATE INDEX action_of ON action (backend);

CREATE TABLE token (
  token text COLLATE "C" PRIMARY KEY,
  secret_token text NOT NULL,
  backend text COLLATE "C" NOT NULL,
  username text COLLATE "C",
  auth text NOT NULL,
  expires_at bigint NOT NULL
);
COMMENT ON TABLE token IS 'Connection tokens: what a link is made of.';
COMMENT ON COLUMN token.token IS 'The link''s part.';
COMMENT ON COLUMN token.secret_token IS 'What the backend is told, and no user knows.';
COMMENT ON COLUMN token.backend IS 'Where the link leads; no foreign key, see the top.';
COMMENT ON COLUMN token.username IS 'For whom; NULL for nobody in particular.';
COMMENT ON COLUMN token.auth IS 'JSON object that the backend is told.';
COMMENT ON COLUMN token.expires_at IS 'From when on it is not found.';
CREATE INDEX token_of ON token (backend, username);
CREATE INDEX token_expiry ON token (expires_at);

CREATE TABLE revocation (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  backend text COLLATE "C" NOT NULL,
  username text COLLATE "C" NOT NULL,
  created_at bigint NOT NULL,
  origin text DEFAULT current_setting('plane.origin', true)
);
COMMENT ON TABLE revocation IS
  'Revocations of tokens of late: the log in which controllers read what their proxies must hear.';
COMMENT ON COLUMN revocation.id IS 'Order of arrival; numbers are missing where a transaction failed.';
COMMENT ON COLUMN revocation.backend IS 'Where the tokens led.';
COMMENT ON COLUMN revocation.username IS 'Whose tokens they were.';
COMMENT ON COLUMN revocation.created_at IS 'When; cleanup forgets old ones.';
COMMENT ON COLUMN revocation.origin IS 'Which controller''s process stored it: random, so that it skips its own.';
CREATE INDEX revocation_age ON revocation (created_at);

CREATE TABLE certificate (
  cluster text COLLATE "C" PRIMARY KEY,
  node_id bigint,
  lease_ends_at bigint NOT NULL,
  txt_value text
);
COMMENT ON TABLE certificate IS 'Which proxy of a cluster answers an ACME challenge.';
COMMENT ON COLUMN certificate.cluster IS 'Whose certificate is asked for.';
COMMENT ON COLUMN certificate.node_id IS 'The proxy that does; NULL for none.';
COMMENT ON COLUMN certificate.lease_ends_at IS 'When another one may.';
COMMENT ON COLUMN certificate.txt_value IS 'The DNS record that answers; NULL for none yet.';
