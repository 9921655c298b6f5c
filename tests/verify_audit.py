#!/usr/bin/env python3
"""A second verifier of Bulkhead's audit exports; the format is docs/audit.md.

It shares no code with the first one and needs only Python's standard library.

    verify_audit.py --key audit.pub [--kept FILE] EXPORT...
    verify_audit.py --vectors FILE

Prints one JSON line per export, {"file", "ok", "line", "seq", "why"}; exit 0 only if all hold.
"""

import argparse
import base64
import hashlib
import json
import re
import sys

VERSION = 2
MAX_LINE = 8 * 1024 * 1024
GENESIS = bytes(32)
ABSENT = b"\xff" * 8
I64 = range(-(2**63), 2**63)
U64 = range(2**64)


class Bad(Exception):
    """The export does not hold. `seq` is the first bad event, if that is known."""

    def __init__(self, why, seq=None):
        super().__init__(why)
        self.seq = seq


def sha256(data):
    return hashlib.sha256(data).digest()


# --- canonical bytes ---


def field(data):
    return len(data).to_bytes(8, "little") + data


def text(value):
    return ABSENT if value is None else field(value.encode())


def number(value):
    return ABSENT if value is None else field(value.to_bytes(8, "little", signed=True))


def digest(value):
    return ABSENT if value is None else field(bytes.fromhex(value))


def texts(values):
    return field(b"".join(map(text, values)))


def encode_detail(detail):
    return (
        text("bulkhead-audit-detail-v2")
        + digest(detail["salt"])
        + text(detail["actor"])
        + text(detail["address"])
        + texts(detail["reasons"])
        + digest(detail["stdout_sha256"])
        + digest(detail["stderr_sha256"])
        + text(detail["data"])
    )


def encode_decision(it):
    if it is None:
        return ABSENT
    parts = text(it["outcome"]) + texts(it["rules"])
    return field(parts + number(it["policy_version"]) + text(it["approver"]))


def encode_sandbox(it):
    if it is None:
        return ABSENT
    return field(text(it["id"]) + number(it["generation"]) + text(it["image_digest"]))


def encode_event(event, previous):
    return (
        text("bulkhead-audit-v2")
        + field(previous)
        + text(event["chain"])
        + number(event["seq"])
        + number(event["time_us"])
        + text(event["role"])
        + text(event["token_id"])
        + text(event["action"])
        + text(event["object"])
        + text(event["session_id"])
        + text(event["exec_id"])
        + text(event["outcome"])
        + encode_decision(event["decision"])
        + encode_sandbox(event["sandbox"])
        + digest(event["detail_sha256"])
    )


def encode_leaf(proof):
    return (
        text("bulkhead-audit-leaf-v2")
        + text(proof["chain"])
        + number(proof["size"])
        + digest(proof["head"])
    )


# --- shapes: what each JSON object must look like, in this order ---


def is_text(value):
    return isinstance(value, str)


def whole(among):
    return lambda value: type(value) is int and value in among


def hexed(length):
    return lambda value: is_text(value) and re.fullmatch("[0-9a-f]{%d}" % (2 * length), value)


def optional(shape):
    return lambda value: value is None or fits(value, shape)


def listed(shape):
    return lambda value: isinstance(value, list) and all(fits(item, shape) for item in value)


def fits(value, shape):
    if callable(shape):
        return bool(shape(value))
    if not isinstance(value, dict) or list(value) != list(shape):
        return False
    return all(fits(value[key], part) for key, part in shape.items())


DETAIL = {
    "salt": hexed(16),
    "actor": is_text,
    "address": optional(is_text),
    "reasons": listed(is_text),
    "stdout_sha256": optional(hexed(32)),
    "stderr_sha256": optional(hexed(32)),
    "data": is_text,
}
DECISION = {
    "outcome": is_text,
    "rules": listed(is_text),
    "policy_version": optional(whole(I64)),
    "approver": optional(is_text),
}
SANDBOX = {"id": is_text, "generation": whole(I64), "image_digest": optional(is_text)}
EVENT = {
    "chain": is_text,
    "seq": whole(I64),
    "time_us": whole(I64),
    "role": is_text,
    "token_id": optional(is_text),
    "action": is_text,
    "object": is_text,
    "session_id": optional(is_text),
    "exec_id": optional(is_text),
    "outcome": is_text,
    "decision": optional(DECISION),
    "sandbox": optional(SANDBOX),
    "detail_sha256": hexed(32),
    "detail": optional(DETAIL),
}
PROOF = {
    "chain": is_text,
    "size": whole(I64),
    "head": hexed(32),
    "index": whole(U64),
    "path": listed(hexed(32)),
    "note": is_text,
}
MANIFEST = {
    "format": is_text,
    "version": whole(range(2**32)),
    "chain": is_text,
    "from": whole(I64),
    "to": whole(I64),
    "count": whole(I64),
    "previous": hexed(32),
    "created_us": whole(I64),
    "keys": listed(is_text),
}
LINES = {
    "manifest": {"manifest": MANIFEST},
    "event": {"event": EVENT, "hash": hexed(32)},
    "checkpoint": {"checkpoint": PROOF},
    "end": {"end": {"lines": whole(U64), "sha256": hexed(32)}},
}


def parse_line(line):
    """The kind of a line and its object, if it is written in the one way in which it can be."""
    try:
        value = json.loads(line)
        again = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise Bad("no line of an export") from error
    kind = next(iter(value), None) if isinstance(value, dict) else None
    if again != line or kind not in LINES or not fits(value, LINES[kind]):
        raise Bad("no line of an export, or not written as one")
    return kind, value


# --- Ed25519 (RFC 8032) ---

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def add(one, other):
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def same(one, other):
    x = (one[0] * other[2] - other[0] * one[2]) % P
    return x == 0 and (one[1] * other[2] - other[1] * one[2]) % P == 0


def decompress(data):
    """The point of 32 bytes; None if there is none, or it is of small order."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    point = (x, y, 1, x * y % P)
    return None if same(multiply(8, point), (0, 1, 1, 0)) else point


BASE = decompress((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def is_signed(key, message, signature):
    if len(signature) != 64:
        return False
    point, nonce = decompress(key), decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if point is None or nonce is None or s >= L:
        return False
    challenge = hashlib.sha512(signature[:32] + key + message).digest()
    k = int.from_bytes(challenge, "little") % L
    return same(multiply(s, BASE), add(nonce, multiply(k, point)))


# --- signed notes and checkpoints ---


def unbase64(data):
    try:
        plain = base64.b64decode(data, validate=True)
    except ValueError as error:
        raise Bad("no base64") from error
    if base64.b64encode(plain).decode() != data:
        raise Bad("no canonical base64")
    return plain


def parse_key(line):
    name, key_id, key = line.split("+", 2)
    data = unbase64(key)
    if not re.fullmatch(r"[!-*,-~]{1,128}", name) or len(data) != 33 or data[0] != 1:
        raise Bad("no key")
    if sha256(name.encode() + b"\n" + data)[:4].hex() != key_id:
        raise Bad("the id of the key does not fit")
    return (name, bytes.fromhex(key_id)), data[1:]


def read_keys(path):
    with open(path, encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    return dict(parse_key(line) for line in lines if line and not line.startswith("#"))


def open_note(note, keys):
    """The text of a note, and the name of a key that signed it."""
    if len(note.encode()) > 16384 or re.search("[\x00-\x09\x0b-\x1f]", note):
        raise Bad("no note")
    body, gap, rest = note.rpartition("\n\n")
    lines = rest.removesuffix("\n").split("\n")
    if not gap or not rest.endswith("\n") or len(lines) > 16:
        raise Bad("no note")
    body += "\n"
    signer = None
    for line in lines:
        match = re.fullmatch(r"— ([^\s+]+) (\S+)", line)
        if not match:
            raise Bad("no signature line")
        name, data = match[1], unbase64(match[2])
        key = keys.get((name, data[:4]))
        if len(data) < 5:
            raise Bad("no signature")
        if key is not None:
            if not is_signed(key, body.encode(), data[4:]):
                raise Bad("wrong signature")
            signer = signer or name
    if signer is None:
        raise Bad("signed by no known key")
    return body, signer


CHECKPOINT = re.compile(
    r"([^\n]+)\n(0|[1-9][0-9]*)\n([^\n]{44})\n"
    r"number ([1-9][0-9]*)\ntime_us (0|-?[1-9][0-9]*)\nprevious ([^\n]{44})\n"
)


def open_checkpoint(note, keys):
    body, signer = open_note(note, keys)
    match = CHECKPOINT.fullmatch(body)
    if not match or match[1] != signer:
        raise Bad("no checkpoint of the key's origin")
    checkpoint = {
        "body": body,
        "chains": int(match[2]),
        "root": unbase64(match[3]),
        "number": int(match[4]),
        "previous": unbase64(match[6]),
    }
    if checkpoint["number"] == 1 and checkpoint["previous"] != GENESIS:
        raise Bad("nothing comes before the first checkpoint")
    if checkpoint["chains"] not in U64 or checkpoint["number"] not in I64:
        raise Bad("a number out of range")
    if int(match[5]) not in I64:
        raise Bad("a time out of range")
    return checkpoint


def root_of_path(leaf, index, size, path):
    """RFC 9162, section 2.1.3.2."""
    if index >= size:
        return None
    node, last, value = index, size - 1, leaf
    for beside in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            value = sha256(b"\x01" + beside + value)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            value = sha256(b"\x01" + value + beside)
        node, last = node >> 1, last >> 1
    return value if last == 0 else None


def verify_proof(proof, keys):
    checkpoint = open_checkpoint(proof["note"], keys)
    leaf = sha256(b"\x00" + encode_leaf(proof))
    path = [bytes.fromhex(part) for part in proof["path"]]
    if root_of_path(leaf, proof["index"], checkpoint["chains"], path) != checkpoint["root"]:
        raise Bad("the signed root does not contain this state")
    return checkpoint


# --- the export ---


class Pass:
    """Everything that is known after each line."""

    def __init__(self, manifest, keys, kept, texts):
        self.chain = manifest["chain"]
        self.first, self.to = manifest["from"], manifest["to"]
        self.seq, self.head = self.first - 1, bytes.fromhex(manifest["previous"])
        self.keys, self.sealed, self.newest = keys, self.seq, None
        self.kept = sorted((self.open_kept(proof) for proof in kept), key=lambda one: one[0])
        self.texts, self.shared = texts, 0
        self.compare_kept()

    def open_kept(self, proof):
        if proof["chain"] != self.chain:
            raise Bad("the kept checkpoint is of another chain")
        checkpoint = verify_proof(proof, self.keys)
        if proof["size"] < self.first - 1:
            raise Bad("the kept checkpoint is older than the export's beginning")
        return proof["size"], bytes.fromhex(proof["head"]), checkpoint

    def compare_kept(self):
        before = 0
        for size, head, _ in self.kept:
            if size == self.seq and head != self.head:
                raise Bad("a kept checkpoint contradicts the events", before + 1)
            if size < self.seq:
                before = size

    def event(self, line):
        event, stored = line["event"], bytes.fromhex(line["hash"])
        if self.seq == self.to:
            raise Bad("more events than the manifest says")
        bad = self.seq + 1
        if event["seq"] != bad:
            raise Bad("an event is missing or swapped", bad)
        if event["chain"] != self.chain:
            raise Bad("an event of another chain", bad)
        detail = event["detail"]
        if detail is not None and sha256(encode_detail(detail)).hex() != event["detail_sha256"]:
            raise Bad("the detail was changed", bad)
        if sha256(encode_event(event, self.head)) != stored:
            raise Bad("the event was changed, or one before it", bad)
        self.seq, self.head = bad, stored
        self.compare_kept()

    def checkpoint(self, line):
        proof = line["checkpoint"]
        if proof["chain"] != self.chain:
            raise Bad("a checkpoint of another chain")
        try:
            found = verify_proof(proof, self.keys)
        except Bad as bad:
            raise Bad(str(bad), self.sealed + 1) from bad
        if proof["size"] != self.seq:
            raise Bad("a checkpoint does not stand after its event")
        if bytes.fromhex(proof["head"]) != self.head:
            raise Bad("a checkpoint contradicts the events", self.sealed + 1)
        for _, _, kept in self.kept:
            if kept["number"] == found["number"] and kept["body"] != found["body"]:
                raise Bad("a kept checkpoint of that number is another one")
        if found["number"] in self.texts:
            self.shared += 1
            if self.texts[found["number"]] != found["body"]:
                raise Bad("a kept checkpoint of that number is another one")
        if self.newest is not None:
            self.follow(self.newest, found)
        self.newest, self.sealed = found, self.seq

    @staticmethod
    def follow(before, after):
        if after["body"].split("\n", 1)[0] != before["body"].split("\n", 1)[0]:
            raise Bad("checkpoints of different installations")
        if after["number"] <= before["number"]:
            raise Bad("the numbers of checkpoints do not rise")
        directly = after["number"] == before["number"] + 1
        if directly and after["previous"] != sha256(before["body"].encode()):
            raise Bad("a checkpoint names another one as the one before it")

    def end(self, line, lines, digest_before):
        if self.seq != self.to:
            raise Bad("events are missing", self.seq + 1)
        if any(size > self.to for size, _, _ in self.kept):
            raise Bad("a kept checkpoint covers more events")
        if self.texts and not self.shared:
            raise Bad("none of the checkpoints is in the file that was kept")
        if self.newest is None or self.sealed != self.to:
            raise Bad("no checkpoint covers the last events", self.sealed + 1)
        if line["end"] != {"lines": lines, "sha256": digest_before}:
            raise Bad("the end line does not fit")


def check_manifest(line):
    kind, value = parse_line(line)
    if kind != "manifest":
        raise Bad("no export")
    manifest = value["manifest"]
    if manifest["format"] != "bulkhead-audit-export" or manifest["version"] != VERSION:
        raise Bad("not an export of this version")
    first, to, count = manifest["from"], manifest["to"], manifest["count"]
    if first < 1 or count < 0 or first + count != to + 1 or to + 1 not in I64:
        raise Bad("the manifest contradicts itself")
    if first == 1 and bytes.fromhex(manifest["previous"]) != GENESIS:
        raise Bad("nothing comes before the first event")
    return manifest


def verify(file, keys, kept, texts):
    """Returns (line, None, None) if the export holds, else (line, seq, why)."""
    line, seq = 1, None
    hashed, run = hashlib.sha256(), None
    try:
        while True:
            data = file.readline(MAX_LINE + 1)
            if not data.endswith(b"\n"):
                raise Bad("the file is cut off")
            if run is None:
                manifest = check_manifest(data[:-1])
                seq = manifest["from"]
                run = Pass(manifest, keys, kept, texts)
            else:
                kind, value = parse_line(data[:-1])
                if kind == "end":
                    run.end(value, line - 1, hashed.hexdigest())
                    break
                if kind == "manifest":
                    raise Bad("a second manifest")
                getattr(run, kind)(value)
                seq = run.seq + 1
            hashed.update(data)
            line += 1
        line += 1
        if file.read(1):
            raise Bad("something comes after the end")
    except Bad as bad:
        return line, seq if bad.seq is None else bad.seq, str(bad)
    return line, None, None


def check_vectors(path):
    with open(path, encoding="utf-8") as file:
        vectors = json.load(file)
    for one in vectors["events"]:
        event, previous = one["event"], bytes.fromhex(one["previous"])
        encoded = encode_event(event, previous)
        assert encoded.hex() == one["encoded"] and sha256(encoded).hex() == one["hash"]
        if event["detail"] is not None:
            encoded = encode_detail(event["detail"])
            assert encoded.hex() == one["detail_encoded"]
            assert sha256(encoded).hex() == event["detail_sha256"]
    for one in vectors["leaves"]:
        assert encode_leaf(one["leaf"]).hex() == one["encoded"]
        assert sha256(b"\x00" + encode_leaf(one["leaf"])).hex() == one["hash"]
    for one in vectors["proofs"]:
        keys = dict([parse_key(one["key"])])
        assert verify_proof(one["proof"], keys)["number"] == one["number"]


def read_texts(lines):
    """The control plane's own file: the texts of all checkpoints by number, none left out. A line that
    a crash cut off is none."""
    texts, before = {}, None
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        body = entry["note"].split("\n\n", 1)[0] + "\n"
        fields = body.split("\n")
        assert fields[3] == f"number {entry['number']}"
        if before is not None:
            assert entry["number"] == before + 1
            previous = base64.b64encode(sha256(texts[before].encode())).decode()
            assert fields[5] == "previous " + previous
        before = entry["number"]
        texts[before] = body
    return texts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--key")
    parser.add_argument("--kept")
    parser.add_argument("--vectors")
    parser.add_argument("exports", nargs="*")
    arguments = parser.parse_args()
    if arguments.vectors:
        check_vectors(arguments.vectors)
        return 0
    keys, kept, texts, holds = read_keys(arguments.key), [], {}, True
    if arguments.kept:
        with open(arguments.kept, "rb") as file:
            lines = list(file)
        if lines and lines[0].startswith(b'{"number"'):
            texts = read_texts(lines)
        else:
            kept = [parse_line(line[:-1])[1]["checkpoint"] for line in lines]
    for path in arguments.exports:
        with open(path, "rb") as file:
            line, seq, why = verify(file, keys, kept, texts)
        holds = holds and why is None
        said = {"file": path, "ok": why is None, "line": line, "seq": seq, "why": why}
        print(json.dumps(said, ensure_ascii=False))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
