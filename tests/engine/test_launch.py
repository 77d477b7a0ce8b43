import argparse
import re

import pytest
import torch

from escnet_d2.engine.launch import ProcessPlace, find_place, first_host, launch

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
def test_first_host(nodes, host):
    assert first_host(nodes) == host


def test_torchrun_environment():
    place = find_place({**TORCHRUN, **SRUN})
    assert place == ProcessPlace(5, 8, 1, 4, "env://")


def test_torchrun_environment_without_local_size_is_one_machine():
    environment = {name: value for name, value in TORCHRUN.items() if name != "LOCAL_WORLD_SIZE"}
    assert find_place(environment).local_size == 8


def test_srun_environment():
    place = find_place(SRUN)
    assert (place.rank, place.world_size, place.local_rank, place.local_size) == (5, 8, 1, 2)
    host, port = place.init_method.removeprefix("tcp://").split(":")
    assert host == "gnode10"
    assert 1024 < int(port) < 32768


def test_an_srun_step_may_have_fewer_tasks_than_the_job():
    step = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "4", "SLURM_PROCID": "3"}
    place = find_place({**SRUN, **step})
    assert (place.rank, place.world_size, place.local_size) == (3, 4, 4)


def test_srun_ports_agree_within_a_step_and_differ_between_steps_and_jobs():
    def url(**changes):
        return find_place({**SRUN, **changes}).init_method

    assert url(SLURM_PROCID="0") == url(SLURM_PROCID="7")
    urls = [url(), url(SLURM_STEP_ID="1"), url(SLURM_JOB_ID="200506")]
    assert len(set(urls)) == 3


def test_given_url_wins_under_srun():
    assert find_place(SRUN, dist_url="tcp://a:1").init_method == "tcp://a:1"


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
    assert find_place(environment) is None


def test_launcher_can_be_forced():
    assert find_place({**TORCHRUN, **SRUN}, launcher="detectron2") is None
    assert find_place({**TORCHRUN, **SRUN}, launcher="slurm").local_size == 2
    assert find_place(BATCH_SCRIPT, launcher="slurm").world_size == 8


@pytest.mark.parametrize("counts", ["2,4(x2)", "3"])
def test_uneven_nodes_are_refused(counts):
    with pytest.raises(ValueError, match="ntasks-per-node"):
        find_place({**SRUN, "SLURM_TASKS_PER_NODE": counts})


@pytest.mark.parametrize(
    ("launcher", "message"),
    [("torchrun", "lacks RANK, "), ("slurm", "lacks SLURM_PROCID, "), ("mpi", "one of auto, ")],
)
def test_launcher_that_is_not_there(launcher, message):
    with pytest.raises(ValueError, match=message):
        find_place({}, launcher=launcher)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_gpus": 0}, "at least 1"),
        ({"num_machines": 2, "machine_rank": 2}, r"--machine-rank must be in 0\.\.1, got 2"),
        ({"num_machines": 2}, "--dist-url is needed with several machines"),
    ],
)
def test_contradicting_requests_are_refused(changes, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        launch(print, arguments(**changes))
    assert re.search(message, capsys.readouterr().err)


def test_more_gpus_than_the_machine_has(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SystemExit):
        launch(print, arguments(num_gpus=3))
    assert "--num-gpus 3: this machine has 2" in capsys.readouterr().err


def test_one_process_runs_in_this_one(monkeypatch):
    for name in (*TORCHRUN, *SRUN):
        monkeypatch.delenv(name, raising=False)
    calls = []
    launch(calls.append, arguments())
    assert calls == [arguments()]
