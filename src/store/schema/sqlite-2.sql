-- To version 2: revocations are remembered for proxies that were away when they happened.
CREATE TABLE revocation (
  id INTEGER PRIMARY KEY,
  backend TEXT NOT NULL,
  user TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX revocation_age ON revocation (created_at);
