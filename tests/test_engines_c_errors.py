"""What C libraries write to standard error: a notice is left out, and nothing else is lost."""

import subprocess
import sys

SCRIPT = """
import ctypes, sys
from satellite.engines.wake.common import without_notice
libc = ctypes.CDLL(None)
def write(text):
    libc.fputs(text, ctypes.c_void_p.in_dll(libc, "stderr"))
try:
    with without_notice(b"notice\\n"):
        write(b"before\\nnotice\\n")
        print("by python", file=sys.stderr, flush=True)
        write(b"after\\n")
        if len(sys.argv) > 1:
            raise ValueError
except ValueError:
    pass
write(b"later notice\\n")
"""


def test_a_notice_is_left_out() -> None:
    """What else is said comes, also when the work in between fails; afterwards all is as it was."""
    for arguments in ([], ["fail"]):
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True, timeout=60
        )
        assert result.stderr == "by python\nbefore\nafter\nlater notice\n"
