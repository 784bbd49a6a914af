#!/bin/bash
#SBATCH --job-name=touchline
#SBATCH --array=0-7
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=16
#SBATCH --requeue
# A job array: each task takes every eighth line of a list, and writes to a folder of its own.
#
#   sbatch slurm_array.sh season.txt model.safetensors out
#
# OUT may be a shared folder or an address, such as s3://results/season.
set -euo pipefail

list=$1 model=$2 out=$3

awk -v n="$SLURM_ARRAY_TASK_COUNT" -v k="$SLURM_ARRAY_TASK_ID" 'NR % n == k' "$list" |
    touchline detect - --model "$model" -o "$out/$SLURM_ARRAY_TASK_ID" --device cuda
