"""The environment that a baseline holds for: what decides counts beside data and settings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import LiteralString

# As one text a column, by the names that a result's environment has them under. The locale stands
# in another column of each version, and in none where the provider is libc.
ENVIRONMENT_QUERY: LiteralString = """
SELECT current_setting('server_version_num')::int / 10000 || '' AS postgresql,
       CASE datlocprovider WHEN 'b' THEN 'builtin' WHEN 'i' THEN 'icu' ELSE 'libc' END AS provider,
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', datctype) AS locale,
       current_setting('block_size') AS block_size
FROM pg_database d WHERE datname = current_database()
"""

_USUAL_COLLATION = ("builtin", "C.UTF-8")  # the embedded server's
_USUAL_BLOCK = 8192


def signature(environment: Mapping[str, str]) -> str:
    """Name an environment, as a folder's name: ``pg18``, ``pg15-libc-en_US.UTF-8``, ``pg18-16k``.

    The embedded server's collation and the usual block size go without saying.
    """
    parts = [f"pg{environment['postgresql']}"]
    collation = (environment["provider"], environment["locale"])
    if collation != _USUAL_COLLATION:
        parts += collation
    if (block := int(environment["block_size"])) != _USUAL_BLOCK:
        parts.append(f"{block // 1024}k")
    return "-".join(re.sub(r"[^\w.@-]+", "_", part) for part in parts)
