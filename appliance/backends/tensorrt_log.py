"""What TensorRT says, into this program's log."""

from __future__ import annotations

import logging

import tensorrt as trt

_log = logging.getLogger(__name__)

_ERRORS = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)


class TensorRTLog(trt.ILogger):
    """Passes on what TensorRT says, and keeps the last error, which who asks for it raises.

    TensorRT keeps the first logger that it is given for the whole process: there is one, `LOG`.
    """

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._error = ""

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        if severity in _ERRORS:
            self._error = msg
        if severity != trt.ILogger.Severity.VERBOSE:
            _log.debug("TensorRT: %s", msg)

    def take_error(self) -> str:
        """The last error since this was asked, for a sentence on what failed."""
        error, self._error = self._error, ""
        return error or "TensorRT gives no reason"


LOG = TensorRTLog()
