"""What runs in the containers of the pictures: programs with the faults that users' programs have, and some without."""

PREPARED = """
import hashlib, math, mmap, os, random, signal, time
MIB = 1 << 20
def take(mebibytes):
    taken = mmap.mmap(-1, int(mebibytes) * MIB)
    for page in range(0, len(taken), 4096):
        taken[page] = 1
    return taken
began = time.monotonic()
def hours(period):
    return math.sin(2 * math.pi * (time.monotonic() - began) / period)
def work(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        hashlib.sha256(bytes(4096)).digest()
def memory(name):
    return int(open("/sys/fs/cgroup/memory." + name).read())
def end(*_):
    raise SystemExit
"""

SERVER = (
    PREPARED
    + """
signal.signal(signal.SIGTERM, end)
while True:
    held = None
    held = take(22 + 14 * hours({period}) + random.random() * 4)
    work(0.06 + 0.05 * hours({period}))
    time.sleep(2)
"""
)
"""A healthy one, with more to do at some times than at others."""

WORKER = (
    PREPARED
    + """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def job(number):
    held = [take(6 + number % 4 * 6)]
    with open("/data/result", "wb") as file:
        file.write(bytes((1 + number % 3) * MIB))
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    open("/data/result", "rb").read()
    work(5)
    if number % 5 == 4:
        while memory("current") < 0.94 * memory("max"):
            held.append(take(2))
            time.sleep(0.4)
        time.sleep(12)
    while number % 15 == 14:
        held.append(take(2))
        time.sleep(0.1)
number = 0
while True:
    if os.fork() == 0:
        job(number)
        os._exit(0)
    number += 1
    time.sleep(25)
"""
)
"""Deaf to SIGTERM. Never waits for its children, of which one in five comes near the memory limit, and one in fifteen beyond it."""

LEAK = (
    PREPARED
    + """
signal.signal(signal.SIGTERM, end)
held = []
while True:
    held.append(take(1))
    work(0.05)
    time.sleep({pause})
"""
)
"""Takes more and more memory."""

PARENT = (
    PREPARED
    + """
signal.signal(signal.SIGTERM, end)
held = take(8)
number = 0
while True:
    number += 1
    time.sleep(60)
    if (child := os.fork()) == 0:
        held = []
        for _ in range({most} if number % 3 == 0 else {most} // 2):
            held.append(take(1))
            time.sleep(0.8)
        os._exit(0)
    os.waitpid(child, 0)
"""
)
"""One in three of its children takes `most` MiB, and it lives on when that is too much for it."""

POOL = (
    PREPARED
    + """
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
wave = 0
while True:
    wave += 1
    for _ in range(40 if wave % 4 == 0 else 4 + wave % 3 * 3):
        try:
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                time.sleep(50)
                os._exit(0)
        except BlockingIOError:
            time.sleep(0.2)
    time.sleep(60)
"""
)
"""A pool of processes that is too large for its PID limit at times."""

CARELESS = (
    PREPARED
    + """
signal.signal(signal.SIGTERM, end)
while True:
    os.fork() or os._exit(0)
    time.sleep({pause})
"""
)
"""Never waits for its children."""

DATABASE = (
    PREPARED
    + """
signal.signal(signal.SIGTERM, end)
while True:
    with open("/data/table", "wb") as file:
        file.write(bytes(int((3 + 2 * hours(400)) * MIB)))
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    held = open("/data/table", "rb").read()
    work(0.05)
    time.sleep(3)
"""
)
"""Writes and reads a file."""

DEAF = "trap '' TERM; while :; do sleep 5; done"
