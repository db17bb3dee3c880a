"""Outgoing webhooks: a producer learns what became of a notification.

letter      what is said: a CloudEvent, without addresses or names
addresses   where it may go: names are resolved once, and only what was checked is connected to
post        one signed POST: bounded in time and size, no redirects
teller      which of them is due, when the next try is, who is left alone
"""
