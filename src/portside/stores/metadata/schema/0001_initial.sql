-- Times are microseconds since 1970 (UTC).

CREATE TABLE repositories (
    id      INTEGER PRIMARY KEY,
    name    TEXT    NOT NULL UNIQUE,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE blobs (
    digest  TEXT    NOT NULL PRIMARY KEY,
    size    INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A blob can be read only through a repository that links it.
CREATE TABLE repository_blobs (
    repository INTEGER NOT NULL REFERENCES repositories (id),
    digest     TEXT    NOT NULL REFERENCES blobs (digest),
    linked     INTEGER NOT NULL,
    PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX repository_blobs_by_digest ON repository_blobs (digest);

CREATE TABLE manifests (
    id            INTEGER PRIMARY KEY,
    repository    INTEGER NOT NULL REFERENCES repositories (id),
    digest        TEXT    NOT NULL,
    media_type    TEXT    NOT NULL,
    size          INTEGER NOT NULL,
    subject       TEXT,
    artifact_type TEXT,
    annotations   BLOB    NOT NULL,
    created       INTEGER NOT NULL,
    -- Last, for what stands behind a large value is reached only by reading through all of it.
    payload       BLOB    NOT NULL,
    UNIQUE (repository, digest)
) STRICT;

CREATE INDEX manifests_by_subject ON manifests (repository, subject, digest, artifact_type)
    WHERE subject IS NOT NULL;

CREATE TABLE manifest_references (
    manifest   INTEGER NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
    repository INTEGER NOT NULL REFERENCES repositories (id),
    kind       TEXT    NOT NULL CHECK (kind IN ('blob', 'manifest')),
    digest     TEXT    NOT NULL,
    required   INTEGER NOT NULL,
    PRIMARY KEY (manifest, kind, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX manifest_references_by_digest ON manifest_references (repository, digest, kind);

CREATE TABLE tags (
    repository INTEGER NOT NULL REFERENCES repositories (id),
    name       TEXT    NOT NULL,
    manifest   INTEGER NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
    created    INTEGER NOT NULL,
    updated    INTEGER NOT NULL,
    PRIMARY KEY (repository, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX tags_by_manifest ON tags (manifest);

-- A session is opened before anything is pushed, so that its repository need not exist yet.
CREATE TABLE uploads (
    id         TEXT    NOT NULL PRIMARY KEY,
    repository TEXT    NOT NULL,
    algorithm  TEXT    NOT NULL,
    received   INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    updated    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX uploads_by_updated ON uploads (updated);
