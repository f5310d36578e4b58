"""Functions run in processes of their own, which start fast: a server has imported torch, and they are its forks."""

import multiprocessing
import os

import torch.distributed

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["train.loop", "timm", "PIL.Image", "safetensors.torch", "sklearn.metrics"])


def run_process(function, *arguments):
    """Run a function in a process of its own until it ends; returns its exit code, or minus the signal's number."""
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def run_processes(count, function, *arguments):
    """Run a function in several processes that find each other as those of ``torchrun``; returns their exit codes."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes = [
        _CONTEXT.Process(target=_run_rank, args=(rank, count, store.port, function, arguments)) for rank in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def _run_rank(rank, count, port, function, arguments):
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    function(*arguments)
