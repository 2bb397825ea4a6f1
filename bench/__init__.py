"""Side by side: Portside and Debian's docker-registry, under the same load, in the same run."""
