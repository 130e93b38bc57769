"""What both hosts share about talking to each other.

Run-length coded batches and their checksum, errors as gRPC statuses, channel options,
and how a host serves: health, reflection, metrics, logs, signals.
"""

import os

# gRPC's core writes lines of its own to standard error, between ours and in another form; what
# goes wrong reaches us as a status. Has to be set before grpc is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
