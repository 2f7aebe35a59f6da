"""Memory that the machine keeps at hand while programs are timed.

On a virtual machine, freed memory may go back to the host (free page reporting), and the next program that writes to it
pays for its return: a copy of 4 GiB within memory then takes anything between 1.2 and 6 seconds. The kernel gives back
whole blocks of free pages only, by default of 2 MiB. So this touches every page once, and then keeps every 64th and frees the
others: the memory is there for the programs, and seldom free as a block. It helps up to about half of a machine's memory.
"""

import contextlib
import mmap
import subprocess
import sys

PAGE_BYTES = mmap.PAGESIZE
STRIDE_BYTES = 64 * PAGE_BYTES


def hold(bytes_count):
    """Touches that much memory, frees nearly all of it, says so, and keeps the rest until standard input ends."""
    bytes_count -= bytes_count % STRIDE_BYTES
    held = mmap.mmap(-1, bytes_count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held.madvise(mmap.MADV_NOHUGEPAGE)
    zeros = bytes(STRIDE_BYTES)
    for at in range(0, bytes_count, STRIDE_BYTES):
        held[at:at + STRIDE_BYTES] = zeros
    for at in range(0, bytes_count, STRIDE_BYTES):
        held.madvise(mmap.MADV_DONTNEED, at + PAGE_BYTES, STRIDE_BYTES - PAGE_BYTES)
    print("held", flush=True)
    sys.stdin.read()


@contextlib.contextmanager
def warm(bytes_count):
    """Has another process hold the pages meanwhile: a child's peak memory begins with what its parent has."""
    with subprocess.Popen([sys.executable, __file__, str(bytes_count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as holder:
        if holder.stdout.readline() != "held\n":
            sys.exit(f"{bytes_count} bytes of memory could not be kept at hand")
        yield
        holder.stdin.close()


if __name__ == "__main__":
    hold(int(sys.argv[1]))
