"""The package `kosoku` with one fault mended: kosoku_mended.py ARGUMENTS OF KOSOKU

Where compression was agreed on and a binary message comes uncompressed, which a server may send (RFC 7692 section 6),
kosoku 0.1.0 hands it to the case as text of Latin-1. The case hashes it and breaks off, whoever the server is
(npm's ws with `threshold` and `serverNoContextTakeover`, too).
"""

import hashlib

from kosoku._cli import main

sha1 = hashlib.sha1


class Sha1:
    def __init__(self):
        self.hash = sha1()

    def update(self, message):
        self.hash.update(message.encode("latin-1") if isinstance(message, str) else message)

    def digest(self):
        return self.hash.digest()


hashlib.sha1 = Sha1
main()
