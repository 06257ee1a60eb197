"""Keys of text: what two texts must share to be called equal."""

import unicodedata


def fold(text: str) -> str:
    """Fold a text to the key by which it is compared without regard to case: NFC, case folded, NFC again."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def compose(text: str) -> str:
    """Bring a text to NFC, the key by which it is compared with regard to case."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)
