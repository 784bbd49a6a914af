#!/bin/bash
#SBATCH --job-name=touchline
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=128
#SBATCH --requeue
# One run on a Ray cluster that spans all nodes of the job, with a worker per GPU.
#
#   sbatch slurm_ray.sh season.txt model.safetensors out
#
# The list, the footage and OUT must be seen by all nodes under the same paths, or be addresses.
set -euo pipefail

list=$1 model=$2 out=$3
port=6379

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=${nodes[0]}
ip=$(srun --nodes=1 --ntasks=1 --nodelist="$first" hostname --ip-address | awk '{ print $1 }')
address=$ip:$port

node() { # NODE, then options of ray start
    srun --nodes=1 --ntasks=1 --nodelist="$1" \
        ray start --block --num-gpus="$SLURM_GPUS_ON_NODE" --num-cpus="$SLURM_CPUS_PER_TASK" "${@:2}" &
}

node "$first" --head --node-ip-address="$ip" --port="$port"
for other in "${nodes[@]:1}"; do
    node "$other" --address="$address"
done

# Touchline starts a worker for each GPU that the cluster has when it begins.
python3 - "$address" "$((${#nodes[@]} * SLURM_GPUS_ON_NODE))" <<'PYTHON'
import sys
import time

import ray

address, num_gpus = sys.argv[1], int(sys.argv[2])
deadline_s = time.monotonic() + 600
while True:
    try:
        ray.init(address, log_to_driver=False)
        if ray.cluster_resources().get("GPU", 0) >= num_gpus:
            break
        ray.shutdown()
    except ConnectionError:
        pass
    if time.monotonic() > deadline_s:
        sys.exit(f"the Ray cluster did not get {num_gpus} GPUs within ten minutes")
    time.sleep(2)
PYTHON

touchline detect "@$list" --model "$model" -o "$out" --on ray --ray-address "$address"
