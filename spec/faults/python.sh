#!/bin/sh
# Stands for venv/bin/python in the families of faults: as spec/fixtures/tiny/python.sh, and while
# pip installs it does what the script named in PIP_NEMESIS says: waits, leaves children, writes.
venv=${0%/bin/*}
case "$*" in
  "-m mcp_server "*) exec lua5.4 "$PYTHONPATH/mcp_server/server.lua" ;;
  "-c import importlib"*) echo "$PYTHONPATH/mcp_server/__init__.py" ;;
  "-I -c "*) echo '{"pip": "1.0"}' ;;
  "-m pip freeze"*) cat "$venv/packages" 2>/dev/null || true ;;
  "-m pip install"*)
    for last; do :; done
    if [ -n "$PIP_NEMESIS" ] && [ -e "$PIP_NEMESIS" ]; then . "$PIP_NEMESIS"; fi
    cat "$last" > "$venv/packages" ;;
  *)
    echo "python.sh cannot do this: $*" >&2
    exit 64 ;;
esac
