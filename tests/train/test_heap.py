"""The allocator keeps a step's memory: counted in page faults of a process of its own."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from train.heap import keep_heap

if sys.argv[1] == "keep":
    keep_heap()
size = 2**26
for _ in range(10):
    b"x" * size  # 64 MiB: 16,384 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets options of glibc's malloc")
def test_pages_stay():
    def faults(mode):
        run = [sys.executable, "-c", SCRIPT, mode]
        return int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)

    assert faults("keep") < faults("give back") / 3
