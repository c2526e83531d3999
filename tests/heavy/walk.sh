#!/usr/bin/env bash
# What somebody does who meets the project for the first time. Run by tests/heavy/test_walk.py.
#
#   walk.sh REPOSITORY WHEELS OLD_INDEX PORT
#
# WHEELS has two releases of acme, OLD_INDEX is a directory of pypiserver with bolt in it. Works in the directory where
# it is called; pip and twine are those on the PATH.
set -euo pipefail
repository=$1 wheels=$2 old_index=$3 port=$4

step() { printf '\n== %s\n' "$*"; }
installs() { # what pip installs of a project, as name==version
    rm -rf target && pip install --quiet --no-cache-dir --target target --index-url "$index/simple/" "$@" &&
        pip list --path target --format freeze
}
answers() { # whether the index is there and complete
    python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/health')" 2> /dev/null
}
elasticpypi() { (cd checkout && .venv/bin/python -m elasticpypi "$@" --data ../data); }

step clone
git clone --quiet "$repository" checkout

step serve
make --no-print-directory -C checkout serve PORT="$port" DATA="$PWD/data" > serve.log 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" || true' EXIT
until grep -q 'twine upload' serve.log; do
    kill -0 "$server" || { cat serve.log; exit 1; }
    read -rt 0.2 <> <(:) || true
done
index=$(grep -o 'http://[^ ]*@[^/]*' serve.log | head -1)
until answers; do kill -0 "$server"; done

step upload
eval "$(grep -o 'twine upload .* -p [^ ]*' serve.log) $wheels/*"

step install
test "$(installs acme)" = acme==1.1

step yank
elasticpypi yank acme 1.1 --reason "broken on Windows"
test "$(installs acme)" = acme==1.0
elasticpypi unyank acme 1.1
test "$(installs acme)" = acme==1.1

step back up and delete
elasticpypi backup ../index.tar
elasticpypi delete acme 1.1 --yes
test "$(installs acme)" = acme==1.0

step restore
# Beside what was decided since, which a restore does not undo: the deletion stays written down, the file comes back.
elasticpypi restore ../index.tar || test $? = 1
until test "$(installs acme)" = acme==1.1; do kill -0 "$server"; done

step move in from pypiserver
elasticpypi import pypiserver "$old_index"
test "$(installs bolt)" = bolt==2.0

step look
elasticpypi list
elasticpypi show bolt
elasticpypi doctor || test $? = 1
elasticpypi sync --check

step stop
kill "$server"
wait "$server" || true # make says that it was ended
trap - EXIT
! answers
