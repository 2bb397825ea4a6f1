-- Who may: identities, scope maps, the keys that sign tokens, failed attempts.

-- One row. Every change of the tables below but login_failures changes `version`.
CREATE TABLE access_state (
    id            BIGINT           NOT NULL PRIMARY KEY CHECK (id = 1),
    version       BIGINT           NOT NULL,
    closed        BOOLEAN          NOT NULL
);

INSERT INTO access_state (id, version, closed) VALUES (1, 1, FALSE);

CREATE TABLE scope_maps (
    name          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    description   TEXT COLLATE "C" NOT NULL,
    created       BIGINT           NOT NULL
);

CREATE TABLE scope_map_rules (
    scope_map     TEXT COLLATE "C" NOT NULL REFERENCES scope_maps (name) ON DELETE CASCADE,
    pattern       TEXT COLLATE "C" NOT NULL,
    actions       TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (scope_map, pattern)
);

-- Users and tokens share their names, for Basic credentials name both alike.
CREATE TABLE identities (
    name          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind          TEXT COLLATE "C" NOT NULL CHECK (kind IN ('user', 'token')),
    enabled       BOOLEAN          NOT NULL,
    created       BIGINT           NOT NULL,
    expires       BIGINT,
    scope_map     TEXT COLLATE "C" REFERENCES scope_maps (name)
);

CREATE INDEX identities_by_scope_map ON identities (scope_map) WHERE scope_map IS NOT NULL;

CREATE TABLE passwords (
    identity      TEXT COLLATE "C" NOT NULL REFERENCES identities (name) ON DELETE CASCADE,
    number        BIGINT           NOT NULL,
    hash          TEXT COLLATE "C" NOT NULL,
    created       BIGINT           NOT NULL,
    PRIMARY KEY (identity, number)
);

CREATE TABLE signing_keys (
    id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    private       TEXT COLLATE "C" NOT NULL,
    created       BIGINT           NOT NULL
);

CREATE TABLE login_failures (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source        TEXT COLLATE "C" NOT NULL,
    name          TEXT COLLATE "C" NOT NULL,
    failed        BIGINT           NOT NULL
);

CREATE INDEX login_failures_by_source ON login_failures (source, name, failed);
CREATE INDEX login_failures_by_time ON login_failures (failed);
