"""A blob store over an object store: S3, Azure Blob, Google Cloud Storage, a directory, memory."""
