"""Starting one process per GPU: by ourselves, under torchrun, or under SLURM's srun."""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.engine.launch import launch as detectron2_launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

from .input_errors import one_line_errors

LAUNCHERS = ("auto", "detectron2", "torchrun", "slurm")
_TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_SLURM_VARIABLES = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_JOB_NODELIST")
# SLURM jobs take a port in [FIRST, FIRST + COUNT), below the range that Linux hands out by itself.
_FIRST_SLURM_PORT = 15000
_NUM_SLURM_PORTS = 15000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessPlace:
    """Where this process stands among those that somebody else has started.

    Attributes:
        rank: 0 to ``world_size`` - 1.
        world_size: number of processes.
        local_rank: 0 to ``local_size`` - 1, counted on this machine.
        local_size: number of processes on each machine.
        init_method: URL at which the processes meet, as ``torch.distributed`` takes it.
    """

    rank: int
    world_size: int
    local_rank: int
    local_size: int
    init_method: str


def launch(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    """Runs ``main(args)`` once per process; errors of the input end the program in one line.

    Args:
        main: a function at the top level of a module, since it is sent to new processes.
        args: with ``launcher``, ``num_gpus``, ``num_machines``, ``machine_rank`` and ``dist_url``
            as :func:`escnet_d2.engine.argument_parser` defines them.

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
    place = find_place(os.environ, launcher=args.launcher, dist_url=args.dist_url)
    if place is not None:
        if args.num_gpus != 1 or args.num_machines != 1:
            logger.warning(
                "--num-gpus and --num-machines are ignored: %d processes run already.",
                place.world_size,
            )
        _run_in_place(main, args, place)
        return
    _check_request(args)
    detectron2_launch(
        _run_and_leave,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(main, args),
    )


def find_place(
    environment: Mapping[str, str], *, launcher: str = "auto", dist_url: str = "auto"
) -> ProcessPlace | None:
    """Reads this process's place from what torchrun or srun have set.

    Args:
        environment: environment variables.
        launcher: one of :data:`LAUNCHERS`; ``auto`` takes torchrun's variables if all are there,
            then those of an srun step with several tasks.
        dist_url: where to meet under SLURM; ``auto`` is the first node, at a port made of the
            numbers of job and step.

    Returns:
        The place, or None when we start the processes ourselves.

    Raises:
        ValueError: an unknown launcher, or variables that it needs are missing or inconsistent.
    """
    if launcher not in LAUNCHERS:
        raise ValueError(f"--launcher must be one of {', '.join(LAUNCHERS)}, got {launcher!r}.")
    if launcher == "auto":
        launcher = _detect_launcher(environment)
    if launcher == "torchrun":
        return _torchrun_place(environment)
    if launcher == "slurm":
        return _slurm_place(environment, dist_url)
    return None


def first_host(node_list: str) -> str:
    """The first host of a SLURM node list: ``gpu[03-05,9],login1`` gives ``gpu03``."""
    # Commas inside brackets separate numbers, not hosts: bring each bracket to its first number.
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", node_list).split(",")[0]


def _detect_launcher(environment: Mapping[str, str]) -> str:
    if not _missing(environment, _TORCHRUN_VARIABLES):
        return "torchrun"
    return "slurm" if _is_srun_step(environment) else "detectron2"


def _torchrun_place(environment: Mapping[str, str]) -> ProcessPlace:
    _require(environment, _TORCHRUN_VARIABLES, "torchrun")
    world_size = int(environment["WORLD_SIZE"])
    return ProcessPlace(
        rank=int(environment["RANK"]),
        world_size=world_size,
        local_rank=int(environment["LOCAL_RANK"]),
        local_size=int(environment.get("LOCAL_WORLD_SIZE", world_size)),
        init_method="env://",
    )


def _is_srun_step(environment: Mapping[str, str]) -> bool:
    """Returns True if srun started this process as one of several.

    The shell of a batch script has ``SLURM_PROCID`` and ``SLURM_NTASKS`` too, but no step: what
    runs there without srun is alone. So is what runs in an interactive shell, which is a step of
    one task, whatever the job has.
    """
    has_step = "SLURM_STEP_ID" in environment or "SLURM_STEPID" in environment
    if not has_step or _missing(environment, _SLURM_VARIABLES):
        return False
    return _num_srun_tasks(environment) > 1


def _num_srun_tasks(environment: Mapping[str, str]) -> int:
    return int(environment.get("SLURM_STEP_NUM_TASKS", environment["SLURM_NTASKS"]))


def _slurm_place(environment: Mapping[str, str], dist_url: str) -> ProcessPlace:
    _require(environment, _SLURM_VARIABLES, "slurm")
    world_size = _num_srun_tasks(environment)
    if dist_url == "auto":
        nodes = environment.get("SLURM_STEP_NODELIST", environment["SLURM_JOB_NODELIST"])
        job, step = (int(environment.get(f"SLURM_{name}_ID", 0)) for name in ("JOB", "STEP"))
        # Steps of one job may run at once, and so may jobs with neighbouring numbers.
        port = _FIRST_SLURM_PORT + (job * 16 + step) % _NUM_SLURM_PORTS
        dist_url = f"tcp://{first_host(nodes)}:{port}"
    return ProcessPlace(
        rank=int(environment["SLURM_PROCID"]),
        world_size=world_size,
        local_rank=int(environment["SLURM_LOCALID"]),
        local_size=_slurm_tasks_per_node(environment, world_size),
        init_method=dist_url,
    )


def _slurm_tasks_per_node(environment: Mapping[str, str], world_size: int) -> int:
    """Tasks on every node, from ``4(x2)`` (two nodes with four tasks) or ``4,4``."""
    names = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")
    counts = next((environment[name] for name in names if name in environment), str(world_size))
    sizes = {int(re.sub(r"\(x\d+\)", "", part)) for part in counts.split(",")}
    if len(sizes) != 1 or world_size % min(sizes):
        raise ValueError(
            f"Every node must run the same number of tasks, SLURM gives {counts} for {world_size} "
            "tasks: use --ntasks-per-node."
        )
    return sizes.pop()


def _missing(environment: Mapping[str, str], names: tuple[str, ...]) -> list[str]:
    return [name for name in names if name not in environment]


def _require(environment: Mapping[str, str], names: tuple[str, ...], launcher: str) -> None:
    missing = _missing(environment, names)
    if missing:
        raise ValueError(
            f"--launcher {launcher}: the environment lacks {', '.join(missing)}. Start the program "
            f"with {'srun' if launcher == 'slurm' else launcher}."
        )


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
    elif args.num_gpus > 1:
        logger.info("No GPU: --num-gpus %d starts that many CPU processes.", args.num_gpus)
    if args.num_machines > 1 and args.dist_url == "auto":
        raise ValueError(
            "--dist-url is needed with several machines, the same on each: "
            "tcp://<address of machine 0>:<a free port>."
        )


def _run_in_place(
    main: Callable[[argparse.Namespace], object], args: argparse.Namespace, place: ProcessPlace
) -> None:
    if place.world_size == 1:
        main(args)
        return
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        num_devices = torch.cuda.device_count()
        # srun --gpus-per-task shows each task nothing but its own GPU.
        if 1 < num_devices < place.local_size:
            raise ValueError(
                f"{place.local_size} processes on a machine with {num_devices} GPUs: one each."
            )
        torch.cuda.set_device(place.local_rank % num_devices)
    dist.init_process_group(
        backend="nccl" if has_gpu else "gloo",
        init_method=place.init_method,
        rank=place.rank,
        world_size=place.world_size,
        timeout=DEFAULT_TIMEOUT,
    )
    comm.create_local_process_group(place.local_size)
    comm.synchronize()
    _run_and_leave(main, args)


def _run_and_leave(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    """Runs the program and closes the process group.

    After an error the group is left as it is: closing it could wait for processes that are still at
    work, and the end of this process is what tells the launcher to stop them.
    """
    with one_line_errors():
        main(args)
    if dist.is_initialized():
        comm.synchronize()
        dist.destroy_process_group()
