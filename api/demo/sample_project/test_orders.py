"""The tests of the sample project: five that pass and one that fails."""
# ruff: noqa: INP001 - a project of its own, not a package of ours
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import pytest
from orders import invoice_number, shipping_cents, total_cents


def test_a_total_is_the_sum() -> None:
    """Without a discount."""
    assert total_cents([1000, 250]) == 1250


def test_a_discount_is_taken_off() -> None:
    """With one."""
    assert total_cents([1000, 250], discount_percent=10) == 1125


def test_a_discount_above_a_hundred_is_refused() -> None:
    """It would be a gift."""
    with pytest.raises(ValueError, match="120 percent"):
        total_cents([1000], discount_percent=120)


def test_invoice_numbers_are_padded() -> None:
    """To five digits."""
    assert invoice_number(2024, 42) == "2024-00042"


def test_a_light_parcel_has_the_base_price() -> None:
    """Under a kilogram."""
    assert shipping_cents(300) == 490


def test_one_kilogram_is_still_the_base_price() -> None:
    """Exactly a kilogram: this is the one that fails."""
    assert shipping_cents(1000) == 490
