#!/usr/bin/env python3
"""An external trainer for `train-lora --engine command`: TRL on a Ray cluster.

usage: ray_train.py {job} {out} [WORKERS]     (RAY_ADDRESS names the cluster; job, out and base lie on shared storage)

Ray starts one worker for each GPU and sets RANK and WORLD_SIZE; rank 0 writes OUT. The driver waits, so that the
exit code is the training's.
"""

import pathlib
import sys

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def worker(config):
    import runpy
    sys.argv = ["trl_train.py", config["job"], config["out"]]
    runpy.run_path(config["script"], run_name="__main__")


def main():
    job, out = (str(pathlib.Path(argument).resolve()) for argument in sys.argv[1:3])
    workers = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    ray.init()
    script = str(pathlib.Path(__file__).resolve().with_name("trl_train.py"))
    gpu = ray.cluster_resources().get("GPU", 0) >= workers
    TorchTrainer(
        worker, train_loop_config={"job": job, "out": out, "script": script},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu),
        run_config=RunConfig(storage_path=str(pathlib.Path(out) / "ray"))).fit()
    if not (pathlib.Path(out) / "result.json").exists():
        sys.exit("the workers ended without result.json: is OUT on storage that they share?")


if __name__ == "__main__":
    main()
