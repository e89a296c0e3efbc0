"""The sample project of the demo: prices of an order. One of its tests fails, because one of its functions is wrong."""
# ruff: noqa: INP001 - a project of its own, not a package of ours

from __future__ import annotations


def total_cents(prices_cents: list[int], discount_percent: int = 0) -> int:
    """Return the sum of the prices less a discount, in whole cents, rounded down."""
    if not 0 <= discount_percent <= 100:
        raise ValueError(f"a discount of {discount_percent} percent")
    return sum(prices_cents) * (100 - discount_percent) // 100


def shipping_cents(weight_g: int) -> int:
    """Return the price of sending a parcel: 490, and 100 more for each kilogram begun after the first."""
    return 490 + 100 * (weight_g // 1000)  # wrong for exactly one kilogram, as the tests find out


def invoice_number(year: int, count: int) -> str:
    """Return the number on an invoice, `2024-00042`."""
    return f"{year}-{count:05d}"
