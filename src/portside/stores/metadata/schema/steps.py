"""The schema, as numbered steps that lead from one version to the next.

A step that was released never changes; a new column or table is a new step. Times are microseconds
since 1970 (UTC).
"""

from __future__ import annotations

from portside.stores.metadata.schema.tables import (
    AddColumn,
    Column,
    PerEngine,
    Reference,
    Step,
    Table,
    Type,
    tables_after,
)

_ID = Column("id", Type.ID, local=True)
_CREATED = Column("created", Type.INTEGER)
_REPOSITORY = Column("repository", Type.INTEGER, references=Reference("repositories"))
_MANIFEST = Column("manifest", Type.INTEGER, references=Reference("manifests", cascade=True))


def _cascading(table: str) -> Reference:
    """Return a reference to a name, with which the row is deleted."""
    return Reference(table, "name", cascade=True)


_CONTENT: Step = (
    Table(
        "repositories",
        (_ID, Column("name", Type.TEXT, unique=True), _CREATED),
        copy_key=("name",),
    ),
    Table(
        "blobs",
        (Column("digest", Type.TEXT), Column("size", Type.INTEGER), _CREATED),
        primary_key=("digest",),
        copy_key=("digest",),
    ),
    # Blobs whose bytes are about to be removed. A row outlives the locks of a node that loses its
    # connection: until it is gone, or its time is over (by the server's clock, on which all nodes
    # agree), nobody may place the same bytes.
    PerEngine(
        postgres="""
            CREATE TABLE removals (
                digest TEXT COLLATE "C" NOT NULL PRIMARY KEY,
                until TIMESTAMPTZ NOT NULL
            )
        """
    ),
    # A blob can be read only through a repository that links it.
    Table(
        "repository_blobs",
        (
            _REPOSITORY,
            Column("digest", Type.TEXT, references=Reference("blobs", "digest")),
            Column("linked", Type.INTEGER),
        ),
        primary_key=("repository", "digest"),
        copy_key=("repository", "digest"),
    ),
    "CREATE INDEX repository_blobs_by_digest ON repository_blobs (digest)",
    Table(
        "manifests",
        (
            _ID,
            _REPOSITORY,
            Column("digest", Type.TEXT),
            Column("media_type", Type.TEXT),
            Column("size", Type.INTEGER),
            Column("subject", Type.TEXT, null=True),
            Column("artifact_type", Type.TEXT, null=True),
            Column("annotations", Type.BYTES, heavy=True),
            _CREATED,
            # Last: SQLite reaches what is behind a large value only by reading through all of it.
            Column("payload", Type.BYTES, heavy=True),
        ),
        unique=("repository", "digest"),
        copy_key=("repository", "digest"),
    ),
    """
    CREATE INDEX manifests_by_subject ON manifests (repository, subject, digest, artifact_type)
        WHERE subject IS NOT NULL
    """,
    Table(
        "manifest_references",
        (
            _MANIFEST,
            _REPOSITORY,
            Column("kind", Type.TEXT, check="kind IN ('blob', 'manifest')"),
            Column("digest", Type.TEXT),
            Column("required", Type.BOOLEAN),
        ),
        primary_key=("manifest", "kind", "digest"),
        copy_key=("repository", "manifest", "kind", "digest"),
    ),
    """
    CREATE INDEX manifest_references_by_digest ON manifest_references (repository, digest, kind)
    """,
    Table(
        "tags",
        (
            _REPOSITORY,
            Column("name", Type.TEXT),
            _MANIFEST,
            _CREATED,
            Column("updated", Type.INTEGER),
        ),
        primary_key=("repository", "name"),
        copy_key=("repository", "name"),
    ),
    "CREATE INDEX tags_by_manifest ON tags (manifest)",
    # A session is opened before anything is pushed, so its repository need not exist yet. Sessions
    # may end while the registry is read-only. They are not copied: their bytes are in a form of the
    # blob store's own, and clients begin again.
    Table(
        "uploads",
        (
            Column("id", Type.TEXT),
            Column("repository", Type.TEXT),
            Column("algorithm", Type.TEXT),
            Column("received", Type.INTEGER),
            _CREATED,
            Column("updated", Type.INTEGER),
        ),
        primary_key=("id",),
        guarded=("INSERT", "UPDATE"),
    ),
    "CREATE INDEX uploads_by_updated ON uploads (updated)",
)

_ACCESS: Step = (
    # One row. Every change of the tables below but login_failures changes `version`.
    Table(
        "access_state",
        (
            Column("id", Type.SINGLE),
            Column("version", Type.INTEGER, local=True),
            Column("closed", Type.BOOLEAN),
        ),
        access=True,
        copy_key=("id",),
    ),
    "INSERT INTO access_state (id, version, closed) VALUES (1, 1, FALSE)",
    Table(
        "scope_maps",
        (Column("name", Type.TEXT), Column("description", Type.TEXT), _CREATED),
        primary_key=("name",),
        access=True,
        copy_key=("name",),
    ),
    Table(
        "scope_map_rules",
        (
            Column("scope_map", Type.TEXT, references=_cascading("scope_maps")),
            Column("pattern", Type.TEXT),
            Column("actions", Type.TEXT),
        ),
        primary_key=("scope_map", "pattern"),
        access=True,
        copy_key=("scope_map", "pattern"),
    ),
    # Users and tokens share their names: Basic credentials name both alike.
    Table(
        "identities",
        (
            Column("name", Type.TEXT),
            Column("kind", Type.TEXT, check="kind IN ('user', 'token')"),
            Column("enabled", Type.BOOLEAN),
            _CREATED,
            Column("expires", Type.INTEGER, null=True),
            Column("scope_map", Type.TEXT, null=True, references=Reference("scope_maps", "name")),
        ),
        primary_key=("name",),
        access=True,
        copy_key=("name",),
    ),
    """
    CREATE INDEX identities_by_scope_map ON identities (scope_map) WHERE scope_map IS NOT NULL
    """,
    Table(
        "passwords",
        (
            Column("identity", Type.TEXT, references=_cascading("identities")),
            Column("number", Type.INTEGER),
            Column("hash", Type.TEXT),
            _CREATED,
        ),
        primary_key=("identity", "number"),
        access=True,
        copy_key=("identity", "number"),
    ),
    Table(
        "signing_keys",
        (Column("id", Type.TEXT), Column("private", Type.TEXT), _CREATED),
        primary_key=("id",),
        access=True,
        copy_key=("id",),
    ),
    Table(
        "login_failures",
        (
            _ID,
            Column("source", Type.TEXT),
            Column("name", Type.TEXT),
            Column("failed", Type.INTEGER),
        ),
        guarded=(),
    ),
    "CREATE INDEX login_failures_by_source ON login_failures (source, name, failed)",
    "CREATE INDEX login_failures_by_time ON login_failures (failed)",
)

_REGISTRY: Step = (
    # One row: which registry this is, and whether it may change. `copy_of` is the identity of the
    # registry that this one is a copy of, until it takes that one's place. `storage` is what the
    # mark in its blob store says, where that is apart from the database and was served from.
    Table(
        "registry",
        (
            Column("id", Type.SINGLE),
            Column("identity", Type.TEXT),
            Column("copy_of", Type.TEXT, null=True),
            Column("read_only", Type.BOOLEAN),
            Column("storage", Type.TEXT, null=True),
        ),
        guarded=(),
    ),
    PerEngine(
        sqlite="""
            INSERT INTO registry (id, identity, copy_of, read_only)
            VALUES (1, lower(hex(randomblob(16))), NULL, FALSE)
        """,
        postgres="""
            INSERT INTO registry (id, identity, copy_of, read_only)
            VALUES (1, replace(gen_random_uuid()::text, '-', ''), NULL, FALSE)
        """,
    ),
    # Each query of a volatile function sees what was committed before it: a statement that waited
    # for a table while the registry became read-only is refused too. A transaction that changes a
    # copy says so in a setting of its own.
    PerEngine(
        postgres="""
            CREATE FUNCTION refuse_if_read_only() RETURNS trigger LANGUAGE plpgsql VOLATILE AS $$
            BEGIN
                IF (SELECT read_only FROM registry)
                    AND current_setting('portside.copying', TRUE) IS DISTINCT FROM 'on'
                THEN
                    RAISE EXCEPTION 'the registry is read-only' USING ERRCODE = 'PS001';
                END IF;
                RETURN NULL;
            END;
            $$
        """
    ),
)

_FINISHED_UPLOADS: Step = (
    # The digest that the session was finished with: its row is kept for a client that repeats its
    # last request, because the answer was lost.
    AddColumn("uploads", Column("finished", Type.TEXT, null=True)),
)

_OWNED_UPLOADS: Step = (
    # The name of who opened the session, to limit how many one identity has open; anonymous clients
    # have none.
    AddColumn("uploads", Column("owner", Type.TEXT, default="''")),
    """
    CREATE INDEX uploads_by_owner ON uploads (repository, owner) WHERE finished IS NULL
    """,
)

_PASSWORDS_BY_COST: Step = (
    # The cost of a bcrypt hash such as `$2b$12$…`; digests of generated passwords have none.
    """
    CREATE INDEX passwords_by_cost ON passwords (substr(hash, 5, 2)) WHERE substr(hash, 2, 1) = '2'
    """,
)

# The bits of `spec.locks.Lock`; the indexes below name that of LIST.
_LOCKS = Column("locks", Type.INTEGER, default="0")

_PROPERTIES: Step = (
    AddColumn("repositories", _LOCKS),
    AddColumn("repositories", Column("updated", Type.INTEGER, default="0")),
    AddColumn("repositories", Column("manifest_count", Type.INTEGER, default="0")),
    AddColumn("repositories", Column("tag_count", Type.INTEGER, default="0")),
    # When all of it was deleted at once; until a manifest is pushed, it is unknown.
    AddColumn("repositories", Column("deleted", Type.INTEGER, null=True)),
    """
    UPDATE repositories SET
        updated = COALESCE(
            (SELECT MAX(t.updated) FROM tags t WHERE t.repository = repositories.id), created
        ),
        manifest_count = (SELECT COUNT(*) FROM manifests m WHERE m.repository = repositories.id),
        tag_count = (SELECT COUNT(*) FROM tags t WHERE t.repository = repositories.id)
    """,
    """
    CREATE INDEX repositories_listed ON repositories (name)
        WHERE manifest_count > 0 AND (locks & 4) = 0
    """,
    AddColumn("tags", _LOCKS),
    "CREATE INDEX tags_by_time ON tags (repository, updated, name)",
    "DROP INDEX tags_by_manifest",
    "CREATE INDEX tags_by_manifest ON tags (manifest, name)",
    "CREATE INDEX tags_by_manifest_and_time ON tags (manifest, updated, name)",
    AddColumn("manifests", _LOCKS),
    # When the same manifest was pushed again.
    AddColumn("manifests", Column("updated", Type.INTEGER, null=True)),
    AddColumn("manifests", Column("pushed_by", Type.TEXT, default="''")),
    AddColumn("manifests", Column("config_media_type", Type.TEXT, null=True)),
    AddColumn("manifests", Column("architecture", Type.TEXT, null=True)),
    AddColumn("manifests", Column("os", Type.TEXT, null=True)),
    # None in rows of older versions, until `portside migrate` has looked at their manifests.
    AddColumn("manifests", Column("image_size", Type.INTEGER, null=True)),
    """
    CREATE INDEX manifests_by_time
        ON manifests (repository, COALESCE(updated, created), digest)
    """,
    "CREATE INDEX manifests_undescribed ON manifests (id) WHERE image_size IS NULL",
    # A digest that a manifest names somewhere: its content is kept for as long, if it is there.
    AddColumn("manifest_references", Column("weak", Type.BOOLEAN, default="FALSE")),
)

_MARK_UNREFERENCED = """
    UPDATE repository_blobs SET unreferenced = {}
    WHERE NOT EXISTS (
        SELECT 1 FROM manifest_references f
        WHERE f.repository = repository_blobs.repository AND f.digest = repository_blobs.digest
    )
"""

_LIFE: Step = (
    # Since when no manifest of the repository refers to the blob and no client was told of it; none
    # while a manifest refers to it.
    AddColumn("repository_blobs", Column("unreferenced", Type.INTEGER, null=True)),
    # When a client deleted the blob, which a deleted manifest needs if it is restored.
    AddColumn("repository_blobs", Column("deleted", Type.INTEGER, null=True)),
    PerEngine(
        sqlite=_MARK_UNREFERENCED.format("CAST(strftime('%s', 'now') AS INTEGER) * 1000000"),
        postgres=_MARK_UNREFERENCED.format("CAST(extract(epoch FROM now()) AS BIGINT) * 1000000"),
    ),
    """
    CREATE INDEX repository_blobs_unreferenced
        ON repository_blobs (unreferenced, repository, digest)
        WHERE unreferenced IS NOT NULL
    """,
    # Deleted manifests keep their references, and so their blobs, until they are purged.
    AddColumn("manifests", Column("deleted", Type.INTEGER, null=True)),
    AddColumn("manifests", Column("deleted_by", Type.TEXT, default="''")),
    "CREATE INDEX manifests_deleted ON manifests (deleted, id) WHERE deleted IS NOT NULL",
    """
    CREATE INDEX manifests_deleted_of ON manifests (repository, deleted, digest, id, size)
        WHERE deleted IS NOT NULL
    """,
    "CREATE INDEX repositories_deleted ON repositories (name) WHERE deleted IS NOT NULL",
    "DROP INDEX manifests_by_subject",
    """
    CREATE INDEX manifests_by_subject ON manifests (repository, subject, digest, artifact_type)
        WHERE subject IS NOT NULL AND deleted IS NULL
    """,
    "DROP INDEX manifests_by_time",
    """
    CREATE INDEX manifests_by_time
        ON manifests (repository, COALESCE(updated, created), digest) WHERE deleted IS NULL
    """,
    # What each tag pointed at, and from when on.
    Table(
        "tag_history",
        (
            _REPOSITORY,
            Column("name", Type.TEXT),
            Column("at", Type.INTEGER),
            Column("action", Type.TEXT, check="action IN ('set', 'deleted', 'restored')"),
            Column("digest", Type.TEXT),
            Column("identity", Type.TEXT, default="''"),
        ),
        primary_key=("repository", "name", "at"),
        copy_key=("repository", "name", "at"),
    ),
    "CREATE INDEX tag_history_by_time ON tag_history (at, repository, name)",
    """
    CREATE INDEX tag_history_by_digest ON tag_history (repository, digest, at)
        WHERE action = 'deleted'
    """,
    """
    CREATE INDEX tag_history_deleted ON tag_history (repository, at, name)
        WHERE action = 'deleted'
    """,
    # The history of the tags that there are begins with their last push.
    """
    INSERT INTO tag_history (repository, name, at, action, digest)
    SELECT t.repository, t.name, t.updated, 'set', m.digest
    FROM tags t JOIN manifests m ON m.id = t.manifest
    """,
    # The last pull of each manifest, to the hour. Beside the manifests, whose rows are large.
    Table(
        "manifest_pulls",
        (_MANIFEST, _REPOSITORY, Column("pulled", Type.INTEGER)),
        primary_key=("manifest",),
        copy_key=("repository", "manifest"),
        guarded=(),
    ),
    "CREATE INDEX manifest_pulls_by_repository ON manifest_pulls (repository, manifest)",
    # Which process does a background task, and until when (µs since 1970).
    Table(
        "leases",
        (
            Column("name", Type.TEXT),
            Column("holder", Type.TEXT),
            Column("until", Type.INTEGER),
        ),
        primary_key=("name",),
        guarded=(),
    ),
)

_RETENTION: Step = (
    # When it lost a tag; where no tag is left, that is since when it is untagged.
    AddColumn("manifests", Column("untagged", Type.INTEGER, null=True)),
)

_SIZES: Step = (
    # The size of the blob once more, so that what a repository takes is read from its links alone.
    AddColumn("repository_blobs", Column("size", Type.INTEGER, default="0")),
    # All rows change, so PostgreSQL makes its indexes anew, which takes less time than to change
    # each of them for each row. In SQLite, the rows are in the index of the primary key, and the
    # others do not change.
    PerEngine(
        sqlite="""
            UPDATE repository_blobs
            SET size = (SELECT b.size FROM blobs b WHERE b.digest = repository_blobs.digest)
        """,
        postgres="""
            ALTER TABLE repository_blobs DROP CONSTRAINT repository_blobs_pkey;
            DROP INDEX repository_blobs_by_digest;
            DROP INDEX repository_blobs_unreferenced;
            UPDATE repository_blobs l SET size = b.size FROM blobs b WHERE b.digest = l.digest;
            ALTER TABLE repository_blobs ADD PRIMARY KEY (repository, digest) INCLUDE (size);
            CREATE INDEX repository_blobs_by_digest ON repository_blobs (digest);
            CREATE INDEX repository_blobs_unreferenced
                ON repository_blobs (unreferenced, repository, digest)
                WHERE unreferenced IS NOT NULL
        """,
    ),
    # The bytes of all payloads, of deleted manifests too.
    AddColumn("repositories", Column("manifest_bytes", Type.INTEGER, default="0")),
    """
    UPDATE repositories SET manifest_bytes = (
        SELECT COALESCE(SUM(m.size), 0) FROM manifests m WHERE m.repository = repositories.id
    )
    """,
)

_SUCCESSOR: Step = (
    # Where a registry was moved: the database or directory, and the URL of its clients, if known.
    AddColumn("registry", Column("successor", Type.TEXT, null=True)),
    AddColumn("registry", Column("successor_url", Type.TEXT, null=True)),
)

_EVENTS: Step = (
    # What was changed, when, and by whom. Ids never start again, and a copy has the same ones.
    Table(
        "events",
        (
            Column("id", Type.SERIAL),
            Column("at", Type.INTEGER),
            Column("action", Type.TEXT),
            Column("repository", Type.TEXT),
            Column("reference", Type.TEXT),
            Column("digest", Type.TEXT),
            Column("media_type", Type.TEXT),
            Column("size", Type.INTEGER, null=True),
            Column("identity", Type.TEXT),
            Column("request", Type.TEXT),
            Column("address", Type.TEXT),
            Column("agent", Type.TEXT),
            Column("host", Type.TEXT),
            Column("method", Type.TEXT),
            # A JSON object, or empty.
            Column("details", Type.TEXT),
        ),
        copy_key=("id",),
    ),
    """
    CREATE INDEX events_of_access ON events (action, reference, id) WHERE repository = ''
    """,
    # Whether a failed login was recorded as an event: the first one of each name in a while.
    AddColumn("login_failures", Column("recorded", Type.BOOLEAN, default="FALSE")),
)

_PERIODS: Step = (
    # How long the server keeps content, in seconds; none before it has started with this version.
    AddColumn("registry", Column("keep_deleted", Type.INTEGER, null=True)),
    AddColumn("registry", Column("tag_history", Type.INTEGER, null=True)),
    AddColumn("registry", Column("gc_grace", Type.INTEGER, null=True)),
    AddColumn("registry", Column("upload_expiry", Type.INTEGER, null=True)),
)

_WEBHOOKS: Step = (
    # The webhooks of the rules file, and how far each has read the events. Not copied: a copy that
    # takes the place of a registry begins behind its last event.
    Table(
        "webhooks",
        (
            Column("name", Type.TEXT),
            Column("position", Type.INTEGER),
            Column("paused", Type.BOOLEAN, default="FALSE"),
            # Since when it was not paused.
            Column("resumed", Type.INTEGER),
            # When it was no longer in the rules file.
            Column("left_at", Type.INTEGER, null=True),
            # How many deliveries there are in each state: counting them would read them all.
            Column("waiting", Type.INTEGER, default="0"),
            Column("dead", Type.INTEGER, default="0"),
            # When an attempt last succeeded, and since when all of them failed.
            Column("delivered", Type.INTEGER, null=True),
            Column("failing", Type.INTEGER, null=True),
        ),
        primary_key=("name",),
        guarded=(),
    ),
    # What has not been delivered, with the content of the events, which are forgotten by time.
    Table(
        "deliveries",
        (
            Column("webhook", Type.TEXT, references=_cascading("webhooks")),
            Column("state", Type.TEXT, check="state IN ('waiting', 'dead')"),
            Column("event", Type.INTEGER),
            Column("repository", Type.TEXT),
            Column("id", Type.TEXT),
            Column("since", Type.INTEGER),
            # None behind another one of the repository that is waiting, and of a dead one.
            Column("due", Type.INTEGER, null=True),
            Column("attempts", Type.INTEGER, default="0"),
            # When the first attempt failed.
            Column("failing", Type.INTEGER, null=True),
            Column("error", Type.TEXT, default="''"),
            # A JSON object.
            Column("content", Type.TEXT),
        ),
        primary_key=("webhook", "state", "event"),
        guarded=(),
    ),
    """
    CREATE INDEX deliveries_waiting ON deliveries (webhook, repository, event)
        WHERE state = 'waiting'
    """,
    "CREATE INDEX deliveries_due ON deliveries (webhook, due, event) WHERE due IS NOT NULL",
)

STEPS = (
    _CONTENT,
    _ACCESS,
    _REGISTRY,
    _FINISHED_UPLOADS,
    _OWNED_UPLOADS,
    _PASSWORDS_BY_COST,
    _PROPERTIES,
    _LIFE,
    _RETENTION,
    _SIZES,
    _SUCCESSOR,
    _EVENTS,
    _PERIODS,
    _WEBHOOKS,
)

TABLES = tables_after(STEPS)
"""The newest schema."""

COPIED = tuple(
    sorted(
        (table for table in TABLES.values() if table.copy_key), key=lambda table: not table.access
    )
)
"""What a copy of a registry consists of: access control first, so that no copy is open that should
not be, and each table behind those that its rows refer to."""

GUARDED = tuple(table for table in TABLES.values() if table.guarded)
"""What does not change while the registry is read-only."""
