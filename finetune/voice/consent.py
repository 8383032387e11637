"""Refuse to make a voice of recordings whose speakers aren't said to have agreed."""


class NoConsent(ValueError):
    """Nobody has said that the speakers agreed to a voice being made of their recordings."""


def require_consent(statement: str | None) -> str:
    """Return the statement of who agreed, and when, without the spaces around it.

    Args:
        statement: for the report and the model card, such as "Ana Pérez, in writing, 2026-11-02".

    Raises:
        NoConsent: it is missing or says nothing.
    """
    statement = (statement or "").strip()
    if not any(character.isalpha() for character in statement):
        raise NoConsent(
            f"--consent is {statement!r}: a voice is made only of recordings whose speakers agreed to it. Say who "
            'agreed and when: --consent "Ana Pérez, in writing, 2026-11-02"; for synthetic speech, '
            '--consent "synthetic voices". Without their consent, don\'t train.'
        )
    return statement
