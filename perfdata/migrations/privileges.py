"""Privileges: what a role needs to record which metadata a database's tables were made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.errors import PrivilegesError

if TYPE_CHECKING:
    from perfdata.postgres.link import Link

_ROLE = """
SELECT quote_ident(d.datname), quote_ident(current_user), pg_has_role(d.datdba, 'USAGE'),
  r.rolsuper, current_setting('server_version_num')::int >= 150000
FROM pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = current_user"""
# The function is new in PostgreSQL 15, before which only a superuser may set these.
_MAY_SET = """
SELECT has_parameter_privilege('perfdata.tables', 'SET')
  AND has_parameter_privilege('perfdata.ddl', 'SET')"""


def check_recordable(link: Link) -> None:
    """Raise PrivilegesError unless the role may keep perfdata's settings in the database.

    ``ALTER DATABASE … SET`` takes the database's owner, and as no extension defines these settings
    the privilege to set each of them.
    """
    database, role, owns, superuser, grantable = link.rows(_ROLE)[0]
    if superuser:
        return
    statements = [] if owns else [f"ALTER DATABASE {database} OWNER TO {role};"]
    if grantable and not link.value(_MAY_SET):
        statements.append(f"GRANT SET ON PARAMETER perfdata.tables, perfdata.ddl TO {role};")
    if statements or not grantable:
        only = "" if grantable else ". Before PostgreSQL 15 only a superuser may: connect as one"
        raise PrivilegesError(
            f"refused, nothing was touched: role {role} may not record in settings of database "
            f"{database} which metadata its tables were made from{only}",
            statements if grantable else (),
        )
