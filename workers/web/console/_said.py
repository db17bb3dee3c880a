"""What a page says after something was done, by the word in its address. English, marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from workers.render.formats import N_

SAID: Final[Mapping[str, str]] = {
    "paused": N_("The rule is paused: nothing of it is planned or sent."),
    "resumed": N_("The rule goes on."),
    "snoozed": N_("Nobody is reminded of it before then."),
    "closed": N_("The record is closed."),
    "reopened": N_("The record is judged again by its own data."),
    "retried": N_("It is sent again, if what it says is still due."),
    "released": N_("It is sent after all."),
    "cancelled": N_("It won't be sent; its stages count as told."),
    "resent": N_("It goes to the other address."),
    "suppressed": N_("Nothing is written to that address any more."),
    "suppressed_before": N_("Nothing was written to that address already."),
    "lifted": N_("The address is written to again. What was suppressed isn't sent by itself."),
    "replayed": N_("The message was taken in after all."),
    "dropped": N_("The message is thrown away."),
    "opened": N_("The provider is left alone until somebody uses it again."),
    "in_use": N_("The provider is used again."),
    "revoked": N_("The token ends at once."),
    "user_added": N_("They may sign in now."),
    "user_changed": N_("Changed. Their sessions have ended."),
    "told_again": N_("%(n)s are told again."),
    "ending": N_("It ends where it is."),
    "chosen": N_("The choice is in force."),
    "looked": N_("The workers were told to look at once."),
}
