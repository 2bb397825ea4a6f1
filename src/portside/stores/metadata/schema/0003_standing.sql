-- Which registry this is, and whether it may change.

-- One row. `copy_of` is the identity of the registry that this one is a copy of, until it is used in
-- its place; a copy changes with what it is a copy of, and not otherwise. `storage` is what the mark in
-- its blob store says, where that is apart from the database and has been served from.
CREATE TABLE registry (
    id        INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    identity  TEXT    NOT NULL,
    copy_of   TEXT,
    read_only INTEGER NOT NULL,
    storage   TEXT
) STRICT;

INSERT INTO registry (id, identity, copy_of, read_only)
VALUES (1, lower(hex(randomblob(16))), NULL, 0);

-- While `read_only` is set, all that is content or says who may stays as it is. Upload sessions may
-- not go on, but they may end, by themselves too; failed logins are noted as always.

CREATE TRIGGER access_state_stay_on_insert BEFORE INSERT ON access_state
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER access_state_stay_on_update BEFORE UPDATE ON access_state
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER access_state_stay_on_delete BEFORE DELETE ON access_state
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;

CREATE TRIGGER scope_maps_stay_on_insert BEFORE INSERT ON scope_maps
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER scope_maps_stay_on_update BEFORE UPDATE ON scope_maps
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER scope_maps_stay_on_delete BEFORE DELETE ON scope_maps
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;

CREATE TRIGGER scope_map_rules_stay_on_insert BEFORE INSERT ON scope_map_rules
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER scope_map_rules_stay_on_update BEFORE UPDATE ON scope_map_rules
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER scope_map_rules_stay_on_delete BEFORE DELETE ON scope_map_rules
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;

CREATE TRIGGER identities_stay_on_insert BEFORE INSERT ON identities
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER identities_stay_on_update BEFORE UPDATE ON identities
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER identities_stay_on_delete BEFORE DELETE ON identities
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;

CREATE TRIGGER passwords_stay_on_insert BEFORE INSERT ON passwords
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER passwords_stay_on_update BEFORE UPDATE ON passwords
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER passwords_stay_on_delete BEFORE DELETE ON passwords
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;

CREATE TRIGGER signing_keys_stay_on_insert BEFORE INSERT ON signing_keys
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER signing_keys_stay_on_update BEFORE UPDATE ON signing_keys
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER signing_keys_stay_on_delete BEFORE DELETE ON signing_keys
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;

CREATE TRIGGER repositories_stay_on_insert BEFORE INSERT ON repositories
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER repositories_stay_on_update BEFORE UPDATE ON repositories
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER repositories_stay_on_delete BEFORE DELETE ON repositories
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;

CREATE TRIGGER blobs_stay_on_insert BEFORE INSERT ON blobs
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER blobs_stay_on_update BEFORE UPDATE ON blobs
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER blobs_stay_on_delete BEFORE DELETE ON blobs
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;

CREATE TRIGGER repository_blobs_stay_on_insert BEFORE INSERT ON repository_blobs
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER repository_blobs_stay_on_update BEFORE UPDATE ON repository_blobs
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER repository_blobs_stay_on_delete BEFORE DELETE ON repository_blobs
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;

CREATE TRIGGER manifests_stay_on_insert BEFORE INSERT ON manifests
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER manifests_stay_on_update BEFORE UPDATE ON manifests
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER manifests_stay_on_delete BEFORE DELETE ON manifests
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;

CREATE TRIGGER manifest_references_stay_on_insert BEFORE INSERT ON manifest_references
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER manifest_references_stay_on_update BEFORE UPDATE ON manifest_references
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER manifest_references_stay_on_delete BEFORE DELETE ON manifest_references
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;

CREATE TRIGGER tags_stay_on_insert BEFORE INSERT ON tags
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER tags_stay_on_update BEFORE UPDATE ON tags
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER tags_stay_on_delete BEFORE DELETE ON tags
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;

CREATE TRIGGER uploads_stay_on_insert BEFORE INSERT ON uploads
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
CREATE TRIGGER uploads_stay_on_update BEFORE UPDATE ON uploads
WHEN (SELECT read_only FROM registry) BEGIN
    SELECT RAISE(ABORT, 'the registry is read-only');
END;
