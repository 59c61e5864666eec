"""The shop, which expects more of its purchases than it did: of each, and then of all of them."""

from __future__ import annotations

from dataclasses import replace

from schemas import EventStream, FeatureView, Repository, hours, present, rate, within
from tests.shop import last_purchase, purchases, visit_counts
from tests.shop import repository as shop

stricter = replace(
    purchases, expectations=(*purchases.expectations, within("quantity", 0, 100, reject=True))
)
summed = replace(stricter, expectations=(*stricter.expectations, rate(1)), checked=hours(1))


watched = replace(visit_counts, expectations=(*visit_counts.expectations, present("count_20s")))


def _shop(view: FeatureView) -> Repository:
    """With that view instead of its own."""
    return replace(shop, views=tuple(view if one.name == view.name else one for one in shop.views))


def _of(source: EventStream) -> FeatureView:
    return replace(last_purchase, source=source)


repository = _shop(_of(stricter))
summing = _shop(_of(summed))
watching = _shop(watched)
