-- Which registry this is, and whether it may change.

-- One row. `copy_of` is the identity of the registry that this one is a copy of, until it is used in
-- its place; a copy changes with what it is a copy of, and not otherwise. `storage` is what the mark in
-- its blob store says, where that is apart from the database and has been served from.
CREATE TABLE registry (
    id            BIGINT           NOT NULL PRIMARY KEY CHECK (id = 1),
    identity      TEXT COLLATE "C" NOT NULL,
    copy_of       TEXT COLLATE "C",
    read_only     BOOLEAN          NOT NULL,
    storage       TEXT COLLATE "C"
);

INSERT INTO registry (id, identity, copy_of, read_only)
VALUES (1, replace(gen_random_uuid()::text, '-', ''), NULL, FALSE);

-- Each query of a volatile function sees what was committed before it: whoever waited for the table
-- while the switch was set is refused too. What copies into a copy says so for its transaction.
CREATE FUNCTION refuse_if_read_only() RETURNS trigger LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF (SELECT read_only FROM registry)
        AND current_setting('portside.copying', TRUE) IS DISTINCT FROM 'on'
    THEN
        RAISE EXCEPTION 'the registry is read-only' USING ERRCODE = 'PS001';
    END IF;
    RETURN NULL;
END;
$$;

-- While `read_only` is set, all that is content or says who may stays as it is. Upload sessions may
-- not go on, but they may end, by themselves too; failed logins are noted as always.

CREATE TRIGGER stay BEFORE INSERT OR UPDATE OR DELETE ON access_state
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_if_read_only();
CREATE TRIGGER stay BEFORE INSERT OR UPDATE OR DELETE ON scope_maps
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_if_read_only();
CREATE TRIGGER stay BEFORE INSERT OR UPDATE OR DELETE ON scope_map_rules
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_if_read_only();
CREATE TRIGGER stay BEFORE INSERT OR UPDATE OR DELETE ON identities
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_if_read_only();
CREATE TRIGGER stay BEFORE INSERT OR UPDATE OR DELETE ON passwords
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_if_read_only();
CREATE TRIGGER stay BEFORE INSERT OR UPDATE OR DELETE ON signing_keys
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_if_read_only();
CREATE TRIGGER stay BEFORE INSERT OR UPDATE OR DELETE ON repositories
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_if_read_only();
CREATE TRIGGER stay BEFORE INSERT OR UPDATE OR DELETE ON blobs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_if_read_only();
CREATE TRIGGER stay BEFORE INSERT OR UPDATE OR DELETE ON repository_blobs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_if_read_only();
CREATE TRIGGER stay BEFORE INSERT OR UPDATE OR DELETE ON manifests
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_if_read_only();
CREATE TRIGGER stay BEFORE INSERT OR UPDATE OR DELETE ON manifest_references
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_if_read_only();
CREATE TRIGGER stay BEFORE INSERT OR UPDATE OR DELETE ON tags
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_if_read_only();
CREATE TRIGGER stay BEFORE INSERT OR UPDATE ON uploads
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_if_read_only();
