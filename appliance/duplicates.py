"""Which deliveries are the same request, so that it is run and logged once."""

from __future__ import annotations

import struct
import threading
import uuid
import zlib

from appliance.errors import Code, Rejected
from appliance.messages import Request, RequestKey

MOST_FOLLOWERS = 64
"""How many repetitions of a request may wait for its answer."""


def key_of(request: Request, payload: bytes | bytearray) -> RequestKey | None:
    """The key under which a request's outcome is logged; None where nothing tells it from others.

    The frame is part of it, because sensors count their correlation data from 1 again after a
    restart: the same mark on a new frame is a new request.
    """
    if request.correlation is None and not request.qos:
        return None
    checksum = zlib.crc32(payload, zlib.crc32((request.stream or "").encode()))
    return RequestKey(
        tenant=request.tenant,
        digest=struct.pack(">QI", len(payload), checksum),
        correlation=request.correlation,
        packet_id=request.packet_id if request.correlation is None else None,
    )


def new_id(now_s: float) -> str:
    """A request's id: the milliseconds since the epoch, then chance, in hexadecimal as UUID 7.

    Ids that grow are written to flash side by side, and chance ones each to a page of their own.
    """
    return f"{int(now_s * 1e3) & 0xFFFF_FFFF_FFFF:012x}{uuid.uuid4().hex[12:]}"


def may_be_logged(request: Request) -> bool:
    """Whether the log may hold this request's outcome already.

    A client may publish again with the same correlation data at any time; without that, only
    the broker can repeat a request, and then it says so.
    """
    return request.correlation is not None or request.redelivered


class InHand:
    """The keys whose outcome is not in the log yet, with the deliveries that came after the first.

    Entered by the thread that takes requests in, left by the one that writes the log.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._followers: dict[RequestKey, list[Request]] = {}

    def enter(self, key: RequestKey, request: Request) -> bool:
        """Whether this is the first of its key; a later one is kept until the first is done.

        Raises Rejected where too many of it wait for that.
        """
        with self._lock:
            followers = self._followers.get(key)
            if followers is None:
                self._followers[key] = []
                return True
            if len(followers) >= MOST_FOLLOWERS:
                raise Rejected(
                    Code.TOO_MANY,
                    f"the same request came {MOST_FOLLOWERS} times before its answer: wait for it",
                )
            followers.append(request)
            return False

    def leave(self, key: RequestKey) -> list[Request]:
        """Takes the key out; the requests that waited for its outcome, to be answered with it."""
        with self._lock:
            return self._followers.pop(key, [])
