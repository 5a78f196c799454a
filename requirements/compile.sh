#!/usr/bin/env bash
# Compiles pyproject.toml into pinned, hashed requirements for every platform: `make regen`.
# No index, host name or local directory gets into the files, and only wheels are chosen.
set -euo pipefail
cd "$(dirname "$0")/.."
unset PIP_FIND_LINKS UV_FIND_LINKS UV_INDEX UV_INDEX_URL UV_EXTRA_INDEX_URL UV_DEFAULT_INDEX
uv="${UV:-.venv/bin/uv}"

compile() { # compile NAME ARGUMENTS...
  local out="requirements/$1.txt"
  shift
  "$uv" pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
    --only-binary :all: --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
    "$@" --output-file "$out" >/dev/null
  sed -i '1i # Made by requirements/compile.sh from pyproject.toml: do not edit.' "$out"
}

# The widest set first; the narrower ones are held to its versions, which are the tested ones.
compile dev --extra demo --extra kafka --extra mlflow --extra objectstore --group build --group dev
compile demo --extra demo --group build --constraint requirements/dev.txt
compile runtime --constraint requirements/dev.txt
