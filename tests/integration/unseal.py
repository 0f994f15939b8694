#!/usr/bin/env python3
"""Open an encrypted bucket that is a directory, by its documented format alone.

    unseal.py BUCKET KEYFILE    prints each object's key and the SHA-256 of its content; of JSON the content
"""
import base64
import hashlib
import json
import pathlib
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SEGMENT, SALT, TAG = 4096, 16, 16


def derive(key: bytes, salt: bytes, info: bytes) -> AESGCM:
    kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info)
    return AESGCM(kdf.derive(key))


def unseal(key: bytes, name: str, data: bytes) -> bytes:
    stride = SALT + SEGMENT + TAG
    salt = data[:SALT]
    own = derive(key, salt, b"varve object 1\0" + name.encode())
    content = b""
    for number, at in enumerate(range(0, len(data), stride)):
        segment = data[at : at + stride]
        assert segment[:SALT] == salt
        nonce = number.to_bytes(11, "big") + bytes([at + len(segment) == len(data)])
        content += own.decrypt(nonce, segment[SALT:], None)
    return content


bucket = pathlib.Path(sys.argv[1])
tenant = bytes.fromhex(pathlib.Path(sys.argv[2]).read_text().strip())
form = json.loads((bucket / "format").read_text())
sealed = form["sealed"]
about = f"{form['uuid']} {sealed['cipher']} {','.join(form['features'])}"
wrapped = base64.b64decode(sealed["keys"][0])
wrapper = derive(tenant, wrapped[:32], b"varve bucket key 1\0" + about.encode())
key = wrapper.decrypt(bytes(12), wrapped[32:], None)
for path in sorted(bucket.rglob("*")):
    name = str(path.relative_to(bucket))
    if path.is_dir() or name == "format" or name.startswith(".tmp"):
        continue
    text = unseal(key, name, path.read_bytes())
    is_json = text.startswith(b"{")
    print(name, text.decode() if is_json else hashlib.sha256(text).hexdigest())
