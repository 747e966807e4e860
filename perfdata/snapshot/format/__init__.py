"""The snapshot file: one JSON document in two zstd frames, one row a line.

The first frame is the manifest, everything before ``"tables"``; the second is the body. Each frame
has a checksum, and the manifest holds the body's length and SHA-256.
"""
