#!/bin/bash
# Slurm of one machine, for tests: a job is a process, what is known of it lies in $FAKE_SLURM. Tests put files there:
# refuse (what sbatch says and fails), state-ID (what sacct is to say of a job, whatever it does).
cd "$FAKE_SLURM" || exit 1
export SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_JOB_NODELIST=here
case "${0##*/}" in
sbatch)
    [ -e refuse ] && { cat refuse >&2; exit 1; }
    job=$(($(cat last 2>/dev/null || echo 0) + 1))
    echo $job > last
    cp "$1" $job.sh
    array=$(sed -n 's/^#SBATCH --array=0-\([0-9]*\).*/\1/p' "$1")
    for k in $(seq 0 ${array:-0}); do
        id=$job${array:+_$k}
        SLURM_JOB_ID=$job ${array:+env SLURM_ARRAY_JOB_ID=$job SLURM_ARRAY_TASK_ID=$k} setsid "${0%/*}/job" $id > /dev/null 2>&1 < /dev/null &
        echo $! > $id.pid
    done
    echo "Submitted batch job $job";;
job)
    while rm -f again-$1; echo begun >> log-$1; ID=$1 bash ${1%%_*}.sh; code=$?; [ -e again-$1 ]; do :; done
    echo $code > $1.code;;
srun)  # options have a value, but one
    while [[ $1 == --* ]]; do [ $1 == --unbuffered ] && shift 1 || shift 2; done
    echo $BASHPID > step-$ID
    exec "$@" > out-$ID 2>&1;;
sacct)
    echo "JobID|State|NodeList"
    for pid in *.pid; do
        id=${pid%.pid} state=RUNNING
        [ -e $id.code ] && { [ $(cat $id.code) == 0 ] && state=COMPLETED || state=FAILED; }
        [ -e state-$id ] && state=$(cat state-$id)
        echo "$id|$state|here"
    done;;
scancel)
    echo "CANCELLED by 0" > state-$1
    kill -- -$(cat $1.pid) 2>/dev/null || { echo "scancel: error: Kill job error on job id $1: Invalid job id specified" >&2; exit 1; };;
scontrol) touch again-$2;;
esac
