"""Which configured passwords are hashes, and which hashes can be used: plain text and hash stand in the same place."""

from __future__ import annotations

import hashlib
import re


def is_hash(password: str) -> bool:
    """Whether a configured password is a hash as `elasticpypi hash-password` makes it; if not, it is plain text.

    Raise ValueError with the reason where it is meant as a hash but cannot be used: taken for plain text it would
    lock its user out, and let in whoever has read the hash.
    """
    if not _MEANT_AS_HASH.match(password):
        return False
    if scrypt := _SCRYPT.fullmatch(password):
        _check_scrypt(*(int(number) for number in scrypt.groups()))
    elif pbkdf2 := _PBKDF2.fullmatch(password):
        _check_pbkdf2(*pbkdf2.groups())
    else:
        raise ValueError(
            "looks like a hash but is not one that 'elasticpypi hash-password' makes "
            "(a shell expands '$' except between single quotes)"
        )
    return True


# Werkzeug's form, method:parameters$salt$digest, with the lengths that its check can match at all.
_SCRYPT = re.compile(r"scrypt:([0-9]{1,9}):([0-9]{1,9}):([0-9]{1,9})\$[^$]+\$[0-9a-f]{128}")
_PBKDF2 = re.compile(r"pbkdf2:(sha256|sha384|sha512):([0-9]{1,9})\$[^$]+\$([0-9a-f]+)")
_MEANT_AS_HASH = re.compile(
    r"scrypt:[0-9]+:[0-9]+:[0-9]|pbkdf2:\w+:[0-9]"  # also what a shell leaves of one between double quotes
    r"|[\w-]+(:[^$]*)?\$[^$]+\$[0-9a-fA-F]{32,}\Z"  # Werkzeug's form, any method
    r"|\$(2[abxy]|argon2\w*|apr1|[156y])\$.{20}",  # those of htpasswd and crypt(3)
    re.ASCII,
)
_SCRYPT_COST = 2**20  # n * r * p; 128 MiB and 0.7 s. The default is 2**18
_PBKDF2_ITERATIONS = 2_000_000  # 2 s. The default is 1,000,000


def _check_scrypt(n: int, r: int, p: int) -> None:
    # The lower bounds keep what OpenSSL refuses out as well (n < 2**(16*r), and Werkzeug's memory limit).
    if n < 2**10 or n & (n - 1) or r < 8 or p < 1 or n * r * p > _SCRYPT_COST:
        raise ValueError(
            f"is a scrypt hash with parameters that cannot be used (n={n}, r={r}, p={p}; "
            f"n is a power of two from 1024 on, r at least 8, n*r*p at most {_SCRYPT_COST})"
        )


def _check_pbkdf2(name: str, iterations: str, digest: str) -> None:
    if not 1000 <= int(iterations) <= _PBKDF2_ITERATIONS:
        raise ValueError(f"is a pbkdf2 hash with {iterations} iterations, not 1000 to {_PBKDF2_ITERATIONS}")
    if len(digest) != 2 * hashlib.new(name).digest_size:
        raise ValueError(f"is a pbkdf2 hash whose digest has not the length of {name}")
