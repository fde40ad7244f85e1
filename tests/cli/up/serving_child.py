"""A child as a mesh has them, as small as can be: says where it listens, and ends on SIGTERM.

CHILD_ADDRESS_FILE: where to say so. CHILD_MODE: `serve`; `refuse` (cannot start, and says why); `crash`; `stubborn`
(ignores SIGTERM); `restart` (wants to be started again, and says why).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    mode = os.environ["CHILD_MODE"]
    print(f"starting as {os.getpid()}", flush=True)
    if mode == "refuse":
        sys.stderr.write("cannot start: address 127.0.0.1:1 is in use\n")
        raise SystemExit(1)
    if mode == "restart":
        sys.stderr.write("restarting: nlp/cat: a run of it hangs\n")
        raise SystemExit(75)
    if mode == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    signals = {signal.SIGTERM, signal.SIGUSR1}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    file = Path(os.environ["CHILD_ADDRESS_FILE"])
    temporary = file.with_name(f".{file.name}")
    temporary.write_text(f"127.0.0.1:{os.getpid()}")
    temporary.replace(file)
    while signal.sigwait(signals) != signal.SIGTERM or mode == "stubborn":
        pass
    print("drained", flush=True)
