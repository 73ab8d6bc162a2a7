"""Vectors in Milvus: a local file, a server, or Zilliz Cloud."""
