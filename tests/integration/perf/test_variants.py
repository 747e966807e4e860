"""The variants of a comparison, of an application that reads its address from variables."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from perfdata import Target
from perfdata.perf.compare.variants import PREFIX, VariantFactory
from tests.integration.env_shop import EnvShop, env_shop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EnvShop]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield from env_shop(tmp_path / "shop")
    for name in ("shop", "shop_perf"):
        sys.modules.pop(name, None)


def test_a_variant_gives_the_application_the_address_of_its_own_database(
    shop: EnvShop, tmp_path: Path
) -> None:
    """Over the port: its own env.py reads a URL, which a socket has in no form that all read."""
    target = Target(shop.settings, shop.server.conninfo("postgres"), embedded=True)
    folder = tmp_path / "abcd"
    variant = VariantFactory(shop.settings, target, shop.folder, folder).make("this", "this tree")
    name = f"{PREFIX}abcd_this"
    assert variant.url == shop.server.status().url(name, password=True)
    assert variant.allow == f"127.0.0.1:{shop.server.status().port}/{name}"
    assert shop.tables(name) == ["alembic_version", "items"]
    assert variant.url.partition("@")[0] not in repr(variant)
