#!/bin/sh
# Options, script names and anything that is not a program are arguments of node.
set -e
case $1 in
  -*) set -- node "$@" ;;
  *)
    if ! program=$(command -v -- "$1") || [ -z "$program" ] || { [ -f "$1" ] && [ ! -x "$1" ]; }; then
      set -- node "$@"
    fi ;;
esac
exec "$@"
