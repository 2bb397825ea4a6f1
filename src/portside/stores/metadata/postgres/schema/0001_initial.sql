-- Times are microseconds since 1970 (UTC). Text is compared byte by byte, COLLATE "C", whatever the
-- locale of the database: lists are in ASCII order, and an index made on one machine is right on all.

CREATE TABLE repositories (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          TEXT COLLATE "C" NOT NULL UNIQUE,
    created       BIGINT           NOT NULL
);

CREATE TABLE blobs (
    digest        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    size          BIGINT           NOT NULL,
    created       BIGINT           NOT NULL
);

-- Blobs whose bytes somebody is about to remove. The row outlives the locks of a node that loses its
-- connection meanwhile: until it is gone, or that time is over (of the server's clock, as all nodes
-- must agree on it), nobody may place the same bytes.
CREATE TABLE removals (
    digest        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    until         TIMESTAMPTZ      NOT NULL
);

-- A blob can be read only through a repository that links it.
CREATE TABLE repository_blobs (
    repository    BIGINT           NOT NULL REFERENCES repositories (id),
    digest        TEXT COLLATE "C" NOT NULL REFERENCES blobs (digest),
    linked        BIGINT           NOT NULL,
    PRIMARY KEY (repository, digest)
);

CREATE INDEX repository_blobs_by_digest ON repository_blobs (digest);

CREATE TABLE manifests (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    repository    BIGINT           NOT NULL REFERENCES repositories (id),
    digest        TEXT COLLATE "C" NOT NULL,
    media_type    TEXT COLLATE "C" NOT NULL,
    size          BIGINT           NOT NULL,
    subject       TEXT COLLATE "C",
    artifact_type TEXT COLLATE "C",
    annotations   BYTEA            NOT NULL,
    created       BIGINT           NOT NULL,
    payload       BYTEA            NOT NULL,
    UNIQUE (repository, digest)
);

CREATE INDEX manifests_by_subject ON manifests (repository, subject, digest, artifact_type)
    WHERE subject IS NOT NULL;

CREATE TABLE manifest_references (
    manifest      BIGINT           NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
    repository    BIGINT           NOT NULL REFERENCES repositories (id),
    kind          TEXT COLLATE "C" NOT NULL CHECK (kind IN ('blob', 'manifest')),
    digest        TEXT COLLATE "C" NOT NULL,
    required      BOOLEAN          NOT NULL,
    PRIMARY KEY (manifest, kind, digest)
);

CREATE INDEX manifest_references_by_digest ON manifest_references (repository, digest, kind);

CREATE TABLE tags (
    repository    BIGINT           NOT NULL REFERENCES repositories (id),
    name          TEXT COLLATE "C" NOT NULL,
    manifest      BIGINT           NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
    created       BIGINT           NOT NULL,
    updated       BIGINT           NOT NULL,
    PRIMARY KEY (repository, name)
);

CREATE INDEX tags_by_manifest ON tags (manifest);

-- A session is opened before anything is pushed, so that its repository need not exist yet.
CREATE TABLE uploads (
    id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    repository    TEXT COLLATE "C" NOT NULL,
    algorithm     TEXT COLLATE "C" NOT NULL,
    received      BIGINT           NOT NULL,
    created       BIGINT           NOT NULL,
    updated       BIGINT           NOT NULL
);

CREATE INDEX uploads_by_updated ON uploads (updated);
