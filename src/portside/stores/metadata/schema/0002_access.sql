-- Who may: identities, scope maps, the keys that sign tokens, failed attempts.

-- One row. Every change of the tables below but login_failures changes `version`.
CREATE TABLE access_state (
    id      INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    closed  INTEGER NOT NULL
) STRICT;

INSERT INTO access_state (id, version, closed) VALUES (1, 1, 0);

CREATE TABLE scope_maps (
    name        TEXT    NOT NULL PRIMARY KEY,
    description TEXT    NOT NULL,
    created     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE scope_map_rules (
    scope_map TEXT NOT NULL REFERENCES scope_maps (name) ON DELETE CASCADE,
    pattern   TEXT NOT NULL,
    actions   TEXT NOT NULL,
    PRIMARY KEY (scope_map, pattern)
) STRICT, WITHOUT ROWID;

-- Users and tokens share their names, for Basic credentials name both alike.
CREATE TABLE identities (
    name      TEXT    NOT NULL PRIMARY KEY,
    kind      TEXT    NOT NULL CHECK (kind IN ('user', 'token')),
    enabled   INTEGER NOT NULL,
    created   INTEGER NOT NULL,
    expires   INTEGER,
    scope_map TEXT REFERENCES scope_maps (name)
) STRICT, WITHOUT ROWID;

CREATE INDEX identities_by_scope_map ON identities (scope_map) WHERE scope_map IS NOT NULL;

CREATE TABLE passwords (
    identity TEXT    NOT NULL REFERENCES identities (name) ON DELETE CASCADE,
    number   INTEGER NOT NULL,
    hash     TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    PRIMARY KEY (identity, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE signing_keys (
    id      TEXT    NOT NULL PRIMARY KEY,
    private TEXT    NOT NULL,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE login_failures (
    id     INTEGER PRIMARY KEY,
    source TEXT    NOT NULL,
    name   TEXT    NOT NULL,
    failed INTEGER NOT NULL
) STRICT;

CREATE INDEX login_failures_by_source ON login_failures (source, name, failed);
CREATE INDEX login_failures_by_time ON login_failures (failed);
