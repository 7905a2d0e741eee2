"""A name server for one zone: answers A queries from a table, over UDP.

Run as a program: `python3 -m harness.nameserver NAME=ADDRESS…` on 127.0.0.1 port 53, until it is ended.
Names it does not know are refused with NXDOMAIN; other types get an empty answer.
"""

import socket
import struct
import sys


def _question(packet):
    """(labels, type, end of the question) of a query."""
    labels, at = [], 12
    while packet[at]:
        labels.append(packet[at + 1: at + 1 + packet[at]].decode("ascii", "replace").lower())
        at += 1 + packet[at]
    kind, = struct.unpack_from("!H", packet, at + 1)
    return ".".join(labels), kind, at + 5


def answer(packet, table):
    name, kind, end = _question(packet)
    known = name in table
    records = b""
    if known and kind == 1:
        records = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(table[name])
    flags = 0x8180 if known else 0x8183
    return packet[:2] + struct.pack("!HHHHH", flags, 1, 1 if records else 0, 0, 0) + packet[12:end] + records


def main(pairs):
    table = dict(p.split("=", 1) for p in pairs)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 53))
        while True:
            packet, peer = s.recvfrom(4096)
            s.sendto(answer(packet, table), peer)


if __name__ == "__main__":
    main(sys.argv[1:])
