"""The snapshot file: one JSON document in two zstd frames, with one row a line.

The first frame is the manifest: everything before ``"tables"``. The second is the body. Each frame
has a checksum, and the manifest states the body's length and SHA-256.
"""
