"""The parameters in queries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A parameter in the query of a request."""

    name: str
    meaning: str
    required: bool = False
    repeated: bool = False


DIGEST = QueryParameter("digest", "digest of the whole blob", required=True)
DIGEST_AT_ONCE = QueryParameter("digest", "digest of the blob that is the body of this request")
DIGEST_ALGORITHM = QueryParameter("digest-algorithm", "algorithm of the digest that will end it")
MOUNT = QueryParameter("mount", "digest of a blob to link from another repository")
FROM = QueryParameter("from", "repository that holds the blob to mount")
TAG = QueryParameter("tag", "tag to point at the manifest, any number of times", repeated=True)
N = QueryParameter("n", "largest number of results, zero or more")
LAST = QueryParameter("last", "list what comes after this one")
ARTIFACT_TYPE = QueryParameter("artifactType", "list only referrers of this type")
