import argparse

import pytest
import torch

from escnet_d2.engine.launch import launch, torchrun_variables

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
}
BATCH_SCRIPT = {
    "SLURM_JOB_ID": "200505",
    "SLURM_JOB_NODELIST": "gnode[10,20,25,37]",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_TASKS_PER_NODE": "2(x4)",
}
SRUN = {**BATCH_SCRIPT, "SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}


def arguments(**changes):
    settings = {
        "launcher": "auto", "num_gpus": 1, "num_machines": 1, "machine_rank": 0, "dist_url": "auto",
    }  # fmt: skip
    return argparse.Namespace(**{**settings, **changes})


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node7", "node7"),
        ("node7,node9", "node7"),
        ("gpu[03-05,9],login1", "gpu03"),
        ("gnode[10,20,25,37]", "gnode10"),
        ("rack[2-3]n[01,04].cluster,x1", "rack2n01.cluster"),
        ("my-node-[1-2]", "my-node-1"),
    ],
)
def test_processes_meet_at_the_first_host(nodes, host):
    variables = torchrun_variables({**SRUN, "SLURM_STEP_NODELIST": nodes})
    assert variables["MASTER_ADDR"] == host
    assert 1024 < int(variables["MASTER_PORT"]) < 32768


STEP = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "4", "SLURM_PROCID": "3"}


@pytest.mark.parametrize(
    ("environment", "launcher", "sizes"),
    [
        ({**TORCHRUN, **SRUN}, "auto", "5 8 1 4"),
        # Without a local size it is one machine.
        ({**SRUN, **{n: v for n, v in TORCHRUN.items() if "LOCAL_W" not in n}}, "auto", "5 8 1 8"),
        (SRUN, "auto", "5 8 1 2"),
        ({**TORCHRUN, **SRUN}, "slurm", "5 8 1 2"),
        (BATCH_SCRIPT, "slurm", "0 8 0 2"),
        # A step may have fewer tasks than the job.
        ({**SRUN, **STEP}, "auto", "3 4 1 4"),
    ],
)
def test_places_of_processes_that_run_already(environment, launcher, sizes):
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    variables = torchrun_variables(environment, launcher)
    assert [variables.pop(name) for name in names] == sizes.split()
    assert set(variables) == {"MASTER_ADDR", "MASTER_PORT"}


def test_srun_ports_agree_within_a_step_and_differ_between_steps_and_jobs():
    def port(**changes):
        return torchrun_variables({**SRUN, **changes})["MASTER_PORT"]

    assert port(SLURM_PROCID="0") == port(SLURM_PROCID="7")
    assert len({port(), port(SLURM_STEP_ID="1"), port(SLURM_JOB_ID="200506")}) == 3


@pytest.mark.parametrize(
    "environment",
    [
        {},
        BATCH_SCRIPT,
        {**SRUN, "SLURM_NTASKS": "1"},
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_TASKS_PER_NODE": "1"},
        {name: value for name, value in TORCHRUN.items() if name != "MASTER_PORT"},
    ],
    ids=[
        "plain",
        "batch script",
        "one task",
        "interactive shell of a job with several tasks",
        "part of torchrun's variables",
    ],
)
def test_own_processes_where_nobody_else_started_several(environment):
    assert torchrun_variables(environment) == {}
    assert torchrun_variables({**TORCHRUN, **SRUN, **environment}, "detectron2") == {}


@pytest.mark.parametrize(
    ("changes", "launcher", "message"),
    [
        ({"SLURM_TASKS_PER_NODE": "2,4(x2)"}, "auto", "ntasks-per-node"),
        ({"SLURM_TASKS_PER_NODE": "3"}, "auto", "ntasks-per-node"),
        ({}, "torchrun", "lacks RANK, .* with torchrun"),
        ({**TORCHRUN, "WORLD_SIZE": "two"}, "auto", "WORLD_SIZE must be a number, got 'two'"),
    ],
)
def test_environments_that_do_not_fit_are_refused(changes, launcher, message):
    with pytest.raises(ValueError, match=message):
        torchrun_variables({**SRUN, **changes}, launcher)


# tests/test_bad_inputs.py has requests that no machine can meet.
def test_more_processes_than_gpus(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SystemExit, match="2"):
        launch(print, arguments(num_gpus=3))
    assert "--num-gpus 3: this machine has 2" in capsys.readouterr().err


def test_a_given_url_wins_under_srun(monkeypatch):
    monkeypatch.setattr("os.environ", dict(SRUN))
    meetings, calls = [], []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda **o: meetings.append(o))
    monkeypatch.setattr("detectron2.utils.comm.create_local_process_group", lambda size: None)
    for url in ("auto", "tcp://a:1"):
        launch(calls.append, arguments(dist_url=url))
    found = [(o["init_method"], o["rank"], o["world_size"]) for o in meetings]
    assert (found, len(calls)) == ([("env://", 5, 8), ("tcp://a:1", 5, 8)], 2)
