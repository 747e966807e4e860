"""All or nothing: whatever statement of a restore fails, the database is as it was before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perfdata import PerfdataError, Settings, restore_snapshot
from perfdata.postgres.drivers import PsycopgLink
from tests.integration.databases import run
from tests.integration.load.test_atomic import NAME, STAYING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from perfdata.postgres.copy import CopyIn
    from perfdata.postgres.link import Answer, Params, Query

    State = Callable[[str], tuple[str, Any, Any]]


class BreakingLink(PsycopgLink):
    """A link on which one statement, counted from 1, goes wrong on the server."""

    def __init__(
        self, connection: psycopg.Connection[Any], at: int, break_: Callable[[int], None]
    ) -> None:
        super().__init__(connection)
        self.ran = 0
        self._at = at
        self._break = break_

    def _break_here(self) -> None:
        self.ran += 1
        if self.ran == self._at:
            self._break(self.connection.info.backend_pid)
            super()._run("SELECT 1 / 0", None)

    def _run(self, query: Query, params: Params | None) -> Answer:
        self._break_here()
        return super()._run(query, params)

    def _run_all(self, pairs: Sequence[tuple[Query, Params | None]]) -> list[Answer]:
        """Send the statements one by one, so that each can be the one that fails."""
        return [self._run(query, params) for query, params in pairs]

    def _copy_in(self, copy: CopyIn, blocks: Iterable[bytes]) -> int:
        def breaking() -> Iterator[bytes]:
            yield from blocks
            self.ran += 1
            if self.ran == self._at:  # all rows are there, the end is not
                self._break(self.connection.info.backend_pid)
                yield b"no row of this table\n"

        self._break_here()
        return super()._copy_in(copy, breaking())


def let_be(_pid: int) -> None:
    """Leave the backend: the statement that comes next is an error by itself."""


def restore_breaking(
    url: str, settings: Settings, at: int, break_: Callable[[int], None]
) -> tuple[bool, int]:
    """Restore with one statement going wrong; tell whether it raised, and how many ran."""
    with psycopg.connect(url, autocommit=True) as connection:
        link = BreakingLink(connection, at, break_)
        try:
            restore_snapshot(link, NAME, settings=settings)
        except PerfdataError:
            return True, link.ran
        return False, link.ran


@pytest.mark.parametrize("beside", [True, False], ids=["beside", "whole"])
def test_an_error_at_any_statement_leaves_everything(
    prepared: str, settings: Settings, state: State, beside: bool
) -> None:
    if beside:
        run(prepared, STAYING)
    before, at, failed = state(prepared), 0, 0
    while True:
        at += 1
        raised, ran = restore_breaking(prepared, settings, at, let_be)
        if not raised:
            break
        failed += 1
        assert state(prepared) == before, f"after an error at statement {at}"
    assert failed > 60  # BEGIN, the checks, each ALTER, DROP, CREATE and COPY, COMMIT
    assert ran >= at
    assert state(prepared) != before


def test_a_backend_that_is_ended_at_any_statement_leaves_everything(
    prepared: str, settings: Settings, state: State
) -> None:
    """As a crash of the client or of the machine between would: every fourth statement."""
    run(prepared, STAYING)

    def end(pid: int) -> None:
        run(prepared, f"SELECT pg_terminate_backend({pid}, 5000)")

    before, at = state(prepared), 2
    while restore_breaking(prepared, settings, at, end)[0]:
        assert state(prepared) == before, f"after the end at statement {at}"
        at += 4
    assert at > 60
