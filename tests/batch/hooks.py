"""Jobs that misbehave: a sitecustomize module for the worker processes, which are started afresh."""

from __future__ import annotations

from pathlib import Path

_CODE = """
import os, sys, time
if "sparsemf.batch.child" in " ".join(sys.orig_argv):
    import sparsemf.batch.worker as worker
    real = worker.answer

    def answer(request):
        name = os.path.basename(request.get("entry", {}).get("path", "")) if request["task"] == "analyze" else ""
        if name.startswith("slow"):
            time.sleep(600)
        if name.startswith("hog"):
            held = bytearray(3 << 30)
            time.sleep(600)
        if name.startswith("dies"):
            os.kill(os.getpid(), 9)
        if name.startswith("raises"):
            raise SystemError("a bug\\nof two lines")
        if name.startswith("once"):  # the first attempt waits to be killed together with the process it works for
            marker = os.path.join(os.environ["SPARSEMF_TEST_MARKER"], name)
            if not os.path.exists(marker):
                with open(marker + ".tmp", "x") as file:
                    file.write(str(os.getppid()))
                os.rename(marker + ".tmp", marker)
                time.sleep(600)
        return real(request)

    worker.answer = answer
"""


def hook(folder: Path) -> Path:
    """A folder for PYTHONPATH."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_CODE)
    return folder


def running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def children_of(pid: int) -> list[int]:
    """The living children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(entry.name))
        except OSError:
            continue
    return [child for child in found if running(child)]
