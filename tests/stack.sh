#!/usr/bin/env bash
# Runs `bulkhead dev` for one test process and leaves nothing behind: on SIGTERM it stops
# everything, removes the sandboxes of its own executors with their volumes, and deletes the data folder.
# Usage: stack.sh BULKHEAD DATA_DIR [dev arguments…]
set -u
bulkhead=$1
data=$2
shift 2
"$bulkhead" dev --data-dir "$data" "$@" &
dev=$!
finish() {
    trap '' TERM INT
    kill -TERM "$dev" 2>/dev/null
    wait "$dev"
    for id in "$data"/executors/*/executor-id; do
        [ -f "$id" ] || continue
        containers=$(env -u DOCKER_HOST docker ps -aq --filter "label=bulkhead.executor=$(cat "$id")")
        [ -z "$containers" ] || env -u DOCKER_HOST docker rm -f $containers >/dev/null
        volumes=$(env -u DOCKER_HOST docker volume ls -q --filter "label=bulkhead.executor=$(cat "$id")")
        [ -z "$volumes" ] || env -u DOCKER_HOST docker volume rm $volumes >/dev/null
    done
    # Workspaces that no container had mounted any more.
    losetup --list --noheadings --raw --output NAME,BACK-FILE | while read -r device file; do
        case $file in "$data"/*) losetup --detach "$device" ;; esac
    done
    rm -rf "$data"
    exit 0
}
trap finish TERM INT
while kill -0 "$dev" 2>/dev/null; do wait "$dev"; done
finish
