"""Blob stores: the bytes of blobs and of uploads."""
