"""What each principal takes of the replica: calls at a time, and seconds of model runs against a credit that refills.

Here: the books of one process. Not here: who is refused for the load of a model (`limit.py`).
"""

from __future__ import annotations

from shared.errors import ResourceExhausted
from shared.rpc.admission.settings import PrincipalSettings

# Accounts that are kept; beyond, those that are idle and full are closed, which loses nothing.
_MOST_ACCOUNTS = 4096


class Account:
    """One principal's calls in flight and his credit in seconds, which may be below 0."""

    __slots__ = ("credit_s", "filled_at_s", "in_flight", "settings")

    def __init__(self, settings: PrincipalSettings, now_s: float) -> None:
        self.settings = settings
        self.in_flight = 0
        self.credit_s = settings.burst_s
        self.filled_at_s = now_s

    def charge(self, cost_s: float) -> None:
        """Takes off what a call took; nothing where credit is not counted."""
        if self.settings.compute_s_per_s is not None:
            self.credit_s -= cost_s

    def fill(self, now_s: float) -> float:
        """Adds what has come in since the last time; the credit."""
        rate = self.settings.compute_s_per_s or 0.0
        self.credit_s = min(self.settings.burst_s, self.credit_s + rate * (now_s - self.filled_at_s))
        self.filled_at_s = now_s
        return self.credit_s


class Ledger:
    """The accounts of all principals; only of those whose tier has a bound."""

    def __init__(self, default: PrincipalSettings, tiers: dict[str, PrincipalSettings]) -> None:
        self._default = default
        self._tiers = tiers
        self._accounts: dict[tuple[str, str], Account] = {}
        self.unlimited = default.unlimited and all(tier.unlimited for tier in tiers.values())

    @property
    def accounts(self) -> int:
        """Accounts that are kept."""
        return len(self._accounts)

    def open(self, principal: str, tier: str, now_s: float) -> Account | None:
        """The account that a call is to be charged to, with the call entered in it; None for one without bounds.

        Raises ResourceExhausted: he has too many calls in flight, or his credit is used up.
        """
        settings = self._tiers.get(tier, self._default)
        if settings.unlimited:
            return None
        account = self._accounts.get((principal, tier))
        if account is None:
            if len(self._accounts) >= _MOST_ACCOUNTS:
                self._close_idle(now_s)
            account = self._accounts[principal, tier] = Account(settings, now_s)
        most = settings.max_in_flight
        if most is not None and account.in_flight >= most:
            raise ResourceExhausted(
                f"calls in flight of {_name(principal)}",
                limit=f"{most} at a time",
                retry_after_s=_TURN_S,
                reason="PRINCIPAL_CALLS",
            )
        rate = settings.compute_s_per_s
        if rate is not None and account.fill(now_s) <= 0:
            raise ResourceExhausted(
                f"seconds of model runs of {_name(principal)}",
                limit=f"{rate:g} a second",
                # Until there is credit again, and not less than a refusal is worth.
                retry_after_s=round(max(-account.credit_s / rate, _TURN_S), 3),
                reason="PRINCIPAL_BUDGET",
            )
        account.in_flight += 1
        return account

    def _close_idle(self, now_s: float) -> None:
        self._accounts = {
            key: account
            for key, account in self._accounts.items()
            if account.in_flight or account.fill(now_s) < account.settings.burst_s
        }


# His own calls end one by one; about the time of one of them.
_TURN_S = 0.05


def _name(principal: str) -> str:
    return f"principal {principal}" if principal else "callers without a token"
