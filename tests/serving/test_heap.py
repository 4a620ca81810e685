"""The memory of the process while it serves."""

import subprocess
import sys

PROGRAM = """
import gc, resource, sys
from serving import heap
if sys.argv[1] == "settled":
    heap.settle()

def answer():
    parts = [bytearray(60_000) for _ in range(6)]

for _ in range(20):
    answer()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    answer()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, gc.get_freeze_count())
"""


def faults_and_frozen(how: str) -> tuple[int, int]:
    told = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    faults, frozen = told.stdout.split()
    return int(faults), int(frozen)


def test_memory_of_an_answer_is_kept_for_the_next():
    faults, frozen = faults_and_frozen("settled")
    assert faults < 200
    assert frozen > 1000
    # what would happen otherwise
    assert faults_and_frozen("not")[0] > 10 * 200
