"""Keys of backups: the operator holds the one that opens them; an installation holds only what closes them.

The operator's key is the private half of an X25519 pair and the installation keeps the public half, so whoever takes the
machine cannot read older backups, and no backup needs the operator to be there. Each month has a data key of its own, which
the installation forgets when the next one begins; a backup carries it sealed for the operator.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable
from secrets import token_bytes
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from conosco.model.moment import spell_moment
from conosco.model.problem import refuse
from conosco.ports.keys import Keys

KEY_BYTES: Final = 32
CHECK_BYTES: Final = 3
GROUP: Final = 8
_NONCE: Final = bytes(12)  # the key it is used with is made for one message


class _Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """The data key of a month."""

    month: str
    key: bytes


class SealedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A data key that only the holder of a backup key can open. ``key_id`` tells which one, and opens nothing."""

    key_name: str
    key_id: str
    month: str
    ephemeral: bytes
    sealed: bytes


def spell_key(private: bytes) -> str:
    """A backup key as people keep it: letters and digits in groups, with a check against slips."""
    text = base64.b32encode(private + _check(private)).decode()
    return "-".join(text[at : at + GROUP] for at in range(0, len(text), GROUP))


def read_key(spelled: str) -> bytes:
    """Read a backup key; blanks, hyphens and small letters do not matter. Raises Refused for one that was mistyped."""
    text = "".join(spelled.split()).replace("-", "").upper()
    try:
        raw = base64.b32decode(text)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != KEY_BYTES + CHECK_BYTES or _check(raw[:KEY_BYTES]) != raw[KEY_BYTES:]:
        raise refuse("backup_key_mistyped")
    return raw[:KEY_BYTES]


def key_id(public: bytes) -> str:
    """A short name for a key that says nothing about it."""
    return hashlib.blake2b(public, digest_size=6, person=b"conosco-backup").hexdigest()


def new_backup_key(keys: Keys, key_name: str, keep: Callable[[str], None]) -> None:
    """Make a backup key and remember its public half. ``keep`` is given the key for the operator before anything is closed
    with it: it is kept nowhere else.
    """
    private = X25519PrivateKey.generate()
    keep(spell_key(private.private_bytes_raw()))
    keys.put(_recipient(key_name), private.public_key().public_bytes_raw())
    # A data key that was sealed for the former holder is not used for the new one.
    keys.destroy(_epoch(key_name))


def has_backup_key(keys: Keys, key_name: str) -> bool:
    """Whether backups can be closed for the holder of this key."""
    return keys.secret(_recipient(key_name)) is not None


def data_key(keys: Keys, key_name: str, now: int) -> tuple[bytes, SealedKey]:
    """This month's data key, and the same sealed for the holder of the backup key. Raises Refused if there is no such key."""
    public = keys.secret(_recipient(key_name))
    if public is None:
        raise refuse("backup_key_absent", key_name=key_name)
    month = spell_moment(now)[:7]
    raw = keys.secret(_epoch(key_name))
    epoch = None if raw is None else msgspec.msgpack.decode(raw, type=_Epoch)
    if epoch is None or epoch.month != month:
        epoch = _Epoch(month=month, key=token_bytes(KEY_BYTES))
        keys.put(_epoch(key_name), msgspec.msgpack.encode(epoch))
    ephemeral = X25519PrivateKey.generate()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    sent = ephemeral.public_key().public_bytes_raw()
    sealed = ChaCha20Poly1305(_derive(shared, sent + public, b"conosco backup: data key")).encrypt(_NONCE, epoch.key, None)
    return epoch.key, SealedKey(key_name=key_name, key_id=key_id(public), month=month, ephemeral=sent, sealed=sealed)


def open_data_key(sealed: SealedKey, spelled: str) -> bytes:
    """The data key of a backup. Raises Refused if the backup was made for another key, or the header was changed."""
    private = X25519PrivateKey.from_private_bytes(read_key(spelled))
    public = private.public_key().public_bytes_raw()
    if key_id(public) != sealed.key_id:
        raise refuse("backup_key_wrong", key_name=sealed.key_name, wanted=sealed.key_id, given=key_id(public))
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(sealed.ephemeral))
        kek = _derive(shared, sealed.ephemeral + public, b"conosco backup: data key")
        return ChaCha20Poly1305(kek).decrypt(_NONCE, sealed.sealed, None)
    except (InvalidTag, ValueError):
        raise refuse("backup_damaged", where="header") from None


def file_key(data: bytes, salt: bytes) -> bytes:
    """The key of one backup: each has its own salt, so no two share a key."""
    return _derive(data, salt, b"conosco backup: file key")


def _derive(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=purpose).derive(secret)


def _check(private: bytes) -> bytes:
    return hashlib.blake2b(private, digest_size=CHECK_BYTES).digest()


def _recipient(key_name: str) -> str:
    return f"backup_recipient_{key_name}"


def _epoch(key_name: str) -> str:
    return f"backup_epoch_{key_name}"
