"Tasks for engines, in a file of their own: a process that is begun for one of them loads nothing else."
import functools
import os
import signal
import threading
import time
from pathlib import Path

from lgdcnn.config import InputError


def deadly(task):  # a path and a number
    "Note that a task was begun; the first time that 5 is begun, its process is killed."
    folder, k = Path(task[0]), task[1]
    with open(folder / str(k), "a") as f: f.write(".")
    if k == 5 and (folder / "5").read_text() == ".": os.kill(os.getpid(), signal.SIGKILL)
    return -k


def poisoned(task):
    "Note that a task was begun; 5 kills whoever takes it, after a moment in which others are underway."
    folder, k = Path(task[0]), task[1]
    with open(folder / str(k), "a") as f: f.write(".")
    time.sleep(0.02)
    if k == 5: os.kill(os.getpid(), signal.SIGKILL)
    return -k


def wrong(task): raise InputError(f"{task} cannot be done")


class Unreadable(Exception):
    "Can be sent back, and not be read there."
    def __init__(self, a, b): super().__init__(a)


def unreadable(task): raise Unreadable(1, 2)


def late(task): raise TimeoutError(task)


def slowly(task):
    time.sleep(0.05)
    return -task


@functools.cache
def few_rows(name):
    "Load a set for a study that takes a moment."
    from lgdcnn.data.datasets import load_dataset
    from lgdcnn.design.runs import make_set
    return make_set(load_dataset(name), {"train": 64, "val": 20, "test": 20})


def patient(task):  # a folder and a number
    "Note that a task was begun; the first time, wait for whatever may come."
    folder, k = Path(task[0]), task[1]
    with open(folder / str(k), "a") as f: f.write(".")
    if (folder / str(k)).read_text() == ".": time.sleep(60)
    return -k


def sober(task):
    "Take whatever is raised for a failure, as the work of a plan does."
    try: return patient(task)
    except Exception as e: return f"failed: {e}"


def counted(folder, victim, work, name):
    "Note that a training was begun; the first time that the victim is begun, its process is killed after an epoch."
    folder = Path(folder)
    from lgdcnn.benchmark.results import Cell
    from lgdcnn.benchmark.store import ResultStore
    if ResultStore(folder / "results").has(Cell.from_id(name)): return work(name)  # sent again: its answer died with the worker
    with open(folder / name.replace("/", "-"), "a") as f: f.write(".")
    def die():
        while not (folder / f"results/work/checkpoints/{name}.npz").exists(): time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)
    if name == victim and (folder / name.replace("/", "-")).read_text() == ".": threading.Thread(target=die, daemon=True).start()
    return work(name)


def fatal(task): return os._exit(task) if task else task
