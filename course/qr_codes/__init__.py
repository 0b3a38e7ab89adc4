"""Lesson 09: QR codes by hand, what a scanner does, Qart, and the traditional aesthetic codes."""

from course.qr_codes.drawing import Qart, qart, qart_codes
from course.qr_codes.encoding import error_budget, make_code, render
from course.qr_codes.halftones import halftone
from course.qr_codes.layout import function_mask, mask_pattern, read_format, size_of, version_of
from course.qr_codes.pixels import artcoder
from course.qr_codes.scanning import (
    ScanReport,
    codeword_errors,
    luminance,
    module_errors,
    module_means,
    read_modules,
    scan,
    scan_report,
    scanners,
)

__all__ = [
    "Qart",
    "ScanReport",
    "artcoder",
    "codeword_errors",
    "error_budget",
    "function_mask",
    "halftone",
    "luminance",
    "make_code",
    "mask_pattern",
    "module_errors",
    "module_means",
    "qart",
    "qart_codes",
    "read_format",
    "read_modules",
    "render",
    "scan",
    "scan_report",
    "scanners",
    "size_of",
    "version_of",
]
