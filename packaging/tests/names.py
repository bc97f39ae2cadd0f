#!/usr/bin/env python3
"""A name server on 127.0.0.1:53 that knows one name, names.py NAME, at 127.0.0.1. Brings the loopback interface up first."""

import fcntl
import socket
import struct
import sys

known = sys.argv[1].encode()
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(server, 0x8914, struct.pack("16sh", b"lo", 0x49))
server.bind(("127.0.0.1", 53))
while True:
    asked, who = server.recvfrom(512)
    at, labels = 12, []
    while asked[at]:
        labels.append(asked[at + 1:at + 1 + asked[at]])
        at += asked[at] + 1
    question = asked[12:at + 5]
    (kind,) = struct.unpack(">H", asked[at + 1:at + 3])
    is_known = b".".join(labels).lower() == known
    answers = b""
    if is_known and kind == 1:
        answers = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([127, 0, 0, 1])
    flags = 0x8180 if is_known else 0x8183
    header = asked[:2] + struct.pack(">HHHHH", flags, 1, 1 if answers else 0, 0, 0)
    server.sendto(header + question + answers, who)
