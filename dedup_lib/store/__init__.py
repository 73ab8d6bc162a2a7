"""Vectors in Milvus: a local file, a server, or Zilliz Cloud."""

import os

# gRPC prints what its own threads meet, such as a poll that fails when a run is stopped. What matters is raised.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
