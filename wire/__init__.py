"""What both hosts share about talking to each other.

Run-length coded batches and their checksum, errors as gRPC statuses, channel options,
and how a host serves: health, reflection, metrics, logs, signals.
"""
