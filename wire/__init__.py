"""What both hosts share about talking to each other.

Here: run-length coded batches and their checksum, guests and errors as the contract writes them,
channels. Below, in `wire.trust`: who is trusted. Above, in `wire.hosting`: what every host is
made of.
"""

import os

# gRPC's core writes lines of its own to standard error, between ours and in another form; what
# goes wrong reaches us as a status. Has to be set before grpc is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
