#!/usr/bin/env bash
# A sweep on the machines of one Slurm job: sbatch --nodes=4 examples/cluster/slurm.sh tasks/*.py -m my-model
#
# Ray is started on each machine, and the server and the sweep on the first one, which carries out no runs. All machines
# need this folder and its .venv (`pip install 'fanbench[local,ray]'`) under the same name. When the time of the job is over,
# submit it again: the sweep resumes.
#SBATCH --job-name=fanbench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@60
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$PWD}"
export PATH="$PWD/.venv/bin:$PATH"
export FANBENCH_DATA="${FANBENCH_DATA:-$PWD/fanbench-data}"
port="${RAY_PORT:-6379}"

export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$PWD/.ray-token-$SLURM_JOB_ID"
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32))' >"$RAY_AUTH_TOKEN_PATH")

mapfile -t machines < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
on() { srun --overlap --nodes=1 --ntasks=1 --nodelist="$1" "${@:2}"; }
address="$(on "${machines[0]}" hostname --all-ip-addresses | awk '{ print $1 }')"

# Ray gives up if its parts need over 15 s to start, as they may on a machine that is busy.
start_ray() {
    for _ in 1 2 3; do
        on "$1" ray start "${@:2}" --disable-usage-stats --block && break
        [ -e "$RAY_AUTH_TOKEN_PATH" ] || break
    done
}

finish() {
    trap - TERM EXIT
    fanbench stop || true
    rm -f "$RAY_AUTH_TOKEN_PATH"
    for job in $(jobs -p); do
        pkill --parent "$job" || kill "$job" || true
    done
    wait || true
}
trap finish EXIT
trap 'exit 143' TERM

start_ray "${machines[0]}" --head --node-ip-address="$address" --port="$port" --num-cpus=0 --include-dashboard=false &
for ((tries = 60; tries > 0; tries--)); do
    (: >"/dev/tcp/$address/$port") 2>/dev/null && break
    sleep 1
done
for machine in "${machines[@]:1}"; do
    start_ray "$machine" --address="$address:$port" --num-cpus="${SLURM_CPUS_PER_TASK:-1}" &
done

rm -f "$FANBENCH_DATA/server.json"
fanbench serve --engine "ray://$address:$port" --host 0.0.0.0 --port 0 --advertise "$address" &
# Commands with --local find the server by its folder; until it answers, there is no address in it.
for ((tries = 120; tries > 0; tries--)); do
    [ -e "$FANBENCH_DATA/server.json" ] && break
    sleep 1
done
[ -e "$FANBENCH_DATA/server.json" ] || exit 1
# In the background and waited for, so that the signal of Slurm is heard at once.
fanbench sweep --local -y -o results "$@" &
wait $!
