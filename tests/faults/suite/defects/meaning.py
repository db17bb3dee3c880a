"""Defects in what an answer, or none, is taken to mean."""

from __future__ import annotations

from tests.faults.suite.mutants import Change, Mutant

OUTCOMES = "workers/outcomes.py"
SMTP = "workers/providers/smtp.py"

MUTANTS = [
    Mutant(
        "sent-again",
        "an SMS of unknown outcome is sent again",
        (
            Change(
                OUTCOMES,
                "if outcome is Outcome.UNKNOWN and not repeat_is_safe:",
                "if outcome is Outcome.UNKNOWN and not repeat_is_safe and number > 3:",
            ),
        ),
        caught_by="F14-sms",
        n=100,
    ),
    Mutant(
        "known-to-have-failed",
        "a lost answer is taken for a refusal",
        (
            Change(
                OUTCOMES,
                "outcome = Outcome.DEFERRED if isinstance(error, TransientError) else "
                "Outcome.UNKNOWN",
                "outcome = Outcome.DEFERRED",
            ),
        ),
        caught_by="F14-mail",
        n=60,
    ),
    Mutant(
        "another-message-id",
        "each attempt has a Message-ID of its own",
        (
            Change(
                "workers/render/mail.py",
                "f\"<{_token('uid', draft.uid)}@",
                "f\"<{_token('uid', draft.uid)}.{draft.attempt}@",
            ),
        ),
        caught_by="F14-mail",
        n=60,
    ),
    Mutant(
        "stubborn",
        "what was refused for good is tried again",
        (
            Change(
                OUTCOMES,
                "    if isinstance(error, PermanentError):\n        return Finished(",
                "    if isinstance(error, PermanentError) and number > 2:\n"
                "        return Finished(",
            ),
            Change(
                OUTCOMES,
                "outcome = Outcome.DEFERRED if isinstance(error, TransientError) else",
                "outcome = Outcome.DEFERRED if not isinstance(error, UnknownOutcomeError) else",
            ),
            Change(
                OUTCOMES,
                "from workers.errors import PermanentError, ProviderError, TransientError",
                "from workers.errors import (\n"
                "    PermanentError, ProviderError, TransientError, UnknownOutcomeError\n)",
            ),
        ),
        caught_by="F13",
        n=100,
    ),
    Mutant(
        "everybody-suppressed",
        "whoever is refused for any reason is never written to again",
        (
            Change(
                SMTP,
                "bad = found is not None and found.group() in _BAD_ADDRESS",
                "bad = found is not None",
            ),
        ),
        caught_by="F13",
        n=150,
    ),
    Mutant(
        "impatient",
        "Retry-After is ignored",
        (
            Change(
                OUTCOMES,
                "wished = error.retry_after if isinstance(error, TransientError) else None",
                "wished = None",
            ),
            Change(
                OUTCOMES,
                "return Turn(name, one_id, str(error), access, probe, error.retry_after)",
                "return Turn(name, one_id, str(error), access, probe)",
            ),
        ),
        caught_by="F17",
        n=120,
    ),
    Mutant(
        "deaf-to-reports",
        "a report on a parked message doesn't settle it",
        (
            Change(
                "workers/store/aftermath.py",
                "settled = {S.ACCEPTED, S.DELIVERED, S.PARKED, S.SENDING}",
                "settled = {S.ACCEPTED, S.DELIVERED, S.SENDING}",
            ),
        ),
        caught_by="F17",
        n=150,
    ),
    Mutant(
        "money-gone",
        "money that was reserved for a message which nobody took isn't given back",
        (
            Change(
                "workers/deliver.py",
                "if one.outcome in {Outcome.DEFERRED, Outcome.REJECTED}:",
                "if one.outcome is Outcome.REJECTED:",
            ),
        ),
        caught_by="F17-money",
        n=200,
    ),
]
