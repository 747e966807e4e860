"""Flows and their runs, as Core tables."""

from sqlalchemy import Boolean, Column, DateTime, ForeignKey, MetaData, String, Table, Uuid

metadata = MetaData()
flows = Table(
    "flows",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", String, nullable=False),
    Column("is_test_data", Boolean, nullable=False, server_default="false"),
)
runs = Table(
    "runs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("flow_id", ForeignKey("flows.id"), nullable=False, index=True),
    Column("state", String, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("is_test_data", Boolean, nullable=False, server_default="false"),
)
