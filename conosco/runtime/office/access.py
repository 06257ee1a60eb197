"""The access desk: the administrator's token, one-time sign-in links and browser sessions. Only hashes are kept."""

import hmac
from collections.abc import Callable
from secrets import token_urlsafe
from typing import Final

import msgspec

from conosco.model.answer import Session
from conosco.model.moment import HOUR, MINUTE, SECOND
from conosco.ports.control import Control
from conosco.ports.keys import Keys
from conosco.runtime.bootstrap import ADMIN_TOKEN, hash_of

SESSION_LIFETIME: Final = 12 * HOUR
SIGN_IN_LIFETIME: Final = 30 * MINUTE


class _Kept(msgspec.Struct, frozen=True):
    csrf_token: str
    expires_at: int


class AccessDesk:
    """Implements ``web.office.Access``."""

    def __init__(self, control: Control, keys: Keys, clock: Callable[[], int]) -> None:
        self._control = control
        self._keys = keys
        self._clock = clock

    def check_token(self, token: str) -> bool:
        """True if this is the admin token; hashes are compared in constant time."""
        known = self._keys.secret(ADMIN_TOKEN)
        return known is not None and hmac.compare_digest(known, hash_of(token).encode())

    async def redeem(self, code: str) -> bool:
        """Use up a one-time sign-in code."""
        return self._control.take("sign_in", hash_of(code), self._clock()) is not None

    async def open_session(self) -> Session:
        """Make a session with fresh random secrets."""
        secret, csrf_token = token_urlsafe(32), token_urlsafe(24)
        expires_at = self._clock() + SESSION_LIFETIME
        kept = msgspec.json.encode(_Kept(csrf_token, expires_at))
        self._control.put("session", hash_of(secret), kept, expires_at)
        return Session(secret=secret, csrf_token=csrf_token, lifetime_s=SESSION_LIFETIME // SECOND)

    async def session(self, secret: str) -> Session | None:
        """The unexpired session with this secret."""
        now = self._clock()
        raw = self._control.get("session", hash_of(secret), now)
        if raw is None:
            return None
        kept = msgspec.json.decode(raw, type=_Kept)
        return Session(secret=secret, csrf_token=kept.csrf_token, lifetime_s=max(0, kept.expires_at - now) // SECOND)

    async def close_session(self, secret: str) -> None:
        """End a session."""
        self._control.delete("session", hash_of(secret))


def new_sign_in_code(control: Control, now: int) -> str:
    """Make a one-time code that signs one browser in within half an hour."""
    code = token_urlsafe(24)
    control.put("sign_in", hash_of(code), b"", now + SIGN_IN_LIFETIME)
    return code
