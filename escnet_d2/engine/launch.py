"""Starting one process per GPU: by ourselves, under torchrun, or under SLURM's srun."""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta

import torch
import torch.distributed as dist
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.engine.launch import launch as detectron2_launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

from .console import one_line_errors

_TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_SLURM_VARIABLES = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_JOB_NODELIST")
# SLURM jobs take a port in [FIRST, FIRST + COUNT), below the range that Linux hands out by itself.
_FIRST_SLURM_PORT = 15000
_NUM_SLURM_PORTS = 15000
# More bring a machine down before one of them can say what is wrong.
_MAX_CPU_PROCESSES = 64
# Processes with equal shares of a folder may be days apart.
_NEVER = timedelta(days=365)

logger = logging.getLogger(__name__)


def launch(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    """Runs ``main(args)`` once per process; errors of the input end the program in one line.

    Args:
        main: a function at the top level of a module, since it is sent to new processes.
        args: with ``launcher``, ``num_gpus``, ``num_machines``, ``machine_rank`` and ``dist_url``
            as :func:`escnet_d2.commands.train.argument_parser` defines them.

    Raises:
        SystemExit: as :func:`escnet_d2.engine.one_line_errors`; also of more GPUs than the machine
            has, or of settings that contradict each other.
    """
    with one_line_errors():
        try:
            _launch(main, args)
        except ProcessExitedException as error:
            # The process has said why.
            raise SystemExit(error.exit_code) from None


def _launch(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    variables = torchrun_variables(os.environ, args.launcher)
    if not variables:
        _check_request(args)
        detectron2_launch(
            _run_and_leave,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(main, args),
        )
        return
    world_size = int(variables["WORLD_SIZE"])
    if args.num_gpus != 1 or args.num_machines != 1:
        logger.warning(
            "--num-gpus and --num-machines are ignored: %d processes run already.", world_size
        )
    if world_size > 1:
        os.environ.update(variables)
        _join_processes("env://" if args.dist_url == "auto" else args.dist_url)
    _run_and_leave(main, args)


def share_of_run() -> tuple[int, int]:
    """Finds this process's share of work that needs no exchange, such as a folder of photos.

    Processes of torchrun, of an srun step and the tasks of a SLURM array count; each process of
    several on a machine gets a GPU of its own.

    Returns:
        The number of this process, from 0, and how many there are.

    Raises:
        ValueError: their environment is inconsistent.
    """
    variables = torchrun_variables(os.environ)
    rank, world_size = (int(variables.get(name, 0)) for name in ("RANK", "WORLD_SIZE"))
    if variables and torch.cuda.is_available():
        torch.cuda.set_device(int(variables["LOCAL_RANK"]) % torch.cuda.device_count())
    names = ("ID", "MIN", "STEP", "COUNT")
    numbers = [int(os.environ.get(f"SLURM_ARRAY_TASK_{name}", name == "STEP")) for name in names]
    number, first, step, count = numbers
    index, count, world_size = (number - first) // step, max(count, 1), max(world_size, 1)
    if not 0 <= index < count:
        raise ValueError(f"A SLURM array must count evenly, such as --array=0-{count - 1}.")
    return index * world_size + rank, count * world_size


def wait_for_torchrun() -> None:
    """Waits under torchrun until all its processes are here, however long that takes.

    As soon as one ends with an exit code, torchrun stops the others. Who ends with one because of a
    part of its share (:func:`share_of_run`) lets them finish theirs first; all have to call this.
    """
    is_under_torchrun = dist.is_available() and dist.is_torchelastic_launched()
    if is_under_torchrun and int(os.environ["WORLD_SIZE"]) > 1:
        dist.init_process_group("gloo", timeout=_NEVER)
        close_process_group()


def torchrun_variables(environment: Mapping[str, str], launcher: str = "auto") -> dict[str, str]:
    """Returns what torchrun tells each process, under srun made of SLURM's variables.

    Args:
        environment: environment variables.
        launcher: ``detectron2``, ``torchrun``, ``slurm`` or ``auto``, which takes torchrun's
            variables if all are there, then those of an srun step with several tasks.

    Returns:
        Variables by name; none where we start the processes ourselves.

    Raises:
        ValueError: variables that the launcher needs are missing or inconsistent.
    """
    if launcher == "auto":
        launcher = _detect_launcher(environment)
    if launcher == "detectron2":
        return {}
    is_slurm = launcher == "slurm"
    names = _SLURM_VARIABLES if is_slurm else _TORCHRUN_VARIABLES
    missing = [name for name in names if name not in environment]
    if missing:
        raise ValueError(
            f"--launcher {launcher}: the environment lacks {', '.join(missing)}. Start the program "
            f"with {'srun' if is_slurm else 'torchrun'}."
        )
    if is_slurm:
        return _from_slurm(environment)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        if not environment[name].isdecimal():
            raise ValueError(
                f"The environment variable {name} must be a number, got {environment[name]!r}: "
                "unset it, or pass --launcher detectron2."
            )
    local_size = environment.get("LOCAL_WORLD_SIZE", environment["WORLD_SIZE"])
    return {**{name: environment[name] for name in names}, "LOCAL_WORLD_SIZE": local_size}


def _detect_launcher(environment: Mapping[str, str]) -> str:
    if environment.keys() >= set(_TORCHRUN_VARIABLES):
        return "torchrun"
    # The shell of a batch script has SLURM_PROCID and SLURM_NTASKS too, but no step: what runs
    # there without srun is alone. So is what runs in an interactive shell, which is a step of one
    # task, whatever the job has.
    is_step = not environment.keys().isdisjoint(("SLURM_STEP_ID", "SLURM_STEPID"))
    is_complete = environment.keys() >= set(_SLURM_VARIABLES)
    return "slurm" if is_step and is_complete and _num_srun_tasks(environment) > 1 else "detectron2"


def _num_srun_tasks(environment: Mapping[str, str]) -> int:
    return int(environment.get("SLURM_STEP_NUM_TASKS", environment["SLURM_NTASKS"]))


def _from_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    world_size = _num_srun_tasks(environment)
    # Such as 4(x2), two nodes with four tasks, or 4,4.
    names = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")
    counts = next((environment[name] for name in names if name in environment), str(world_size))
    sizes = {int(re.sub(r"\(x\d+\)", "", part)) for part in counts.split(",")}
    if len(sizes) != 1 or world_size % min(sizes):
        raise ValueError(
            f"Every node must run the same number of tasks, SLURM gives {counts} for {world_size} "
            "tasks: use --ntasks-per-node."
        )
    nodes = environment.get("SLURM_STEP_NODELIST", environment["SLURM_JOB_NODELIST"])
    job, step = (int(environment.get(f"SLURM_{name}_ID", 0)) for name in ("JOB", "STEP"))
    # Steps of one job may run at once, and so may jobs with neighboring numbers.
    port = _FIRST_SLURM_PORT + (job * 16 + step) % _NUM_SLURM_PORTS
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": str(sizes.pop()),
        # The first of gpu[03-05,9],login1 is gpu03: a bracket stands for its first number.
        "MASTER_ADDR": re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", nodes).split(",")[0],
        "MASTER_PORT": str(port),
    }


def _check_request(args: argparse.Namespace) -> None:
    """Refuses what Detectron2's launcher would meet with a bare assertion or a wait without end."""
    if args.num_gpus < 1 or args.num_machines < 1:
        raise ValueError("--num-gpus and --num-machines must be at least 1.")
    if not 0 <= args.machine_rank < args.num_machines:
        raise ValueError(
            f"--machine-rank must be in 0..{args.num_machines - 1}, got {args.machine_rank}."
        )
    if torch.cuda.is_available():
        if args.num_gpus > torch.cuda.device_count():
            raise ValueError(
                f"--num-gpus {args.num_gpus}: this machine has {torch.cuda.device_count()}."
            )
    elif args.num_gpus > _MAX_CPU_PROCESSES:
        raise ValueError(
            f"--num-gpus {args.num_gpus}: without a GPU it starts as many CPU processes, at most "
            f"{_MAX_CPU_PROCESSES}."
        )
    elif args.num_gpus > 1:
        logger.info("No GPU: --num-gpus %d starts that many CPU processes.", args.num_gpus)
    if args.num_machines > 1 and args.dist_url == "auto":
        raise ValueError(
            "--dist-url is needed with several machines, the same on each: "
            "tcp://<address of machine 0>:<a free port>."
        )
    if args.dist_url != "auto" and not args.dist_url.startswith(("tcp://", "file://", "env://")):
        raise ValueError(
            f"--dist-url must be auto or tcp://<address>:<port>, got {args.dist_url!r}."
        )


def _join_processes(init_method: str) -> None:
    """Joins the processes that somebody else has started, by torchrun's variables."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    rank, world_size, local_rank, local_size = (int(os.environ[name]) for name in names)
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        num_devices = torch.cuda.device_count()
        # srun --gpus-per-task shows each task nothing but its own GPU.
        if 1 < num_devices < local_size:
            raise ValueError(
                f"{local_size} processes on a machine with {num_devices} GPUs: one each."
            )
        torch.cuda.set_device(local_rank % num_devices)
    dist.init_process_group(
        backend="nccl" if has_gpu else "gloo",
        init_method=init_method,
        rank=rank,
        world_size=world_size,
        timeout=DEFAULT_TIMEOUT,
    )
    comm.create_local_process_group(local_size)
    comm.synchronize()


def _run_and_leave(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    """Runs the program and closes the process group.

    After an error the group is left as it is: closing it could wait for processes that are still at
    work, and the end of this process is what tells the launcher to stop them.
    """
    with one_line_errors():
        main(args)
    if dist.is_initialized():
        close_process_group()


def close_process_group() -> None:
    """Waits for the other processes and closes the groups of all, with their threads.

    Detectron2 keeps a reference to its groups. Threads of gloo that live on in it can abort the
    process while the interpreter ends ("terminate called without an active exception").
    """
    comm.synchronize()
    comm._get_global_gloo_group.cache_clear()
    comm._LOCAL_PROCESS_GROUP = None
    dist.destroy_process_group()
