"""What became of every message that the producer was promised, from three accounts. Pure.

acknowledged   the keys that the peer's client took without an error
arrivals       what the SMTP server took: key and when
left           the keys still found anywhere in the broker once the workers were ended
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Count:
    """Messages of the acknowledged ones; `recovered_s` in seconds.

    lost         never arrived, and the broker has no copy: nothing can bring it back
    stranded     hasn't arrived in the waiting time, and the broker still has a copy
    dup          copies that arrived beyond one of each
    repeat_due   arrived, and still in the broker: will be sent again if it is ever recovered
    recovered_s  from the later of last fault and last enqueueing to the last first arrival;
                 None where something is lost or stranded
    """

    n: int
    lost: int
    dup: int
    stranded: int
    repeat_due: int
    recovered_s: float | None


def count(
    acknowledged: Collection[str],
    arrivals: Sequence[tuple[str, float]],
    left: AbstractSet[str],
    calm_since: float,
) -> Count:
    """Counts. What was never acknowledged counts nowhere, whether it arrived or not.

    `calm_since` is the later of the last fault and the last enqueueing, by the arrivals' clock.
    """
    promised = set(acknowledged)
    if len(promised) != len(acknowledged):
        raise ValueError("a key was acknowledged twice")
    copies = Counter(key for key, _ in arrivals if key in promised)
    first: Mapping[str, float] = {
        key: when for key, when in sorted(arrivals, key=lambda one: -one[1]) if key in promised
    }
    missing = promised - copies.keys()
    whole = max([0.0, *(when - calm_since for when in first.values())])
    return Count(
        n=len(promised),
        lost=len(missing - left),
        dup=sum(copies.values()) - len(copies),
        stranded=len(missing & left),
        repeat_due=len(left & copies.keys()),
        recovered_s=None if missing else round(whole, 1),
    )
