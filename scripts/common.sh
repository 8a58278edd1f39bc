# shellcheck shell=sh
# Shared by the scripts beside it; sourced, not run.
# Leaves the working directory at the root of the project.

cd "$(dirname "$0")/.." || exit
VENV=${VENV:-.venv}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Print the first Python that is new enough: $PYTHON, else the default one, else a versioned one.
find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer was found; on Debian or Ubuntu: sudo apt install python3 python3-venv"
}

# Make the environment in $VENV with the extras named in $1 (such as "dev"), unless it is there and up to date.
ensure_environment() {
    extras=$1
    python=$(find_python)
    stamp="$VENV/.installed-${extras:-plain}"
    wanted=$(cat pyproject.toml constraints.txt satellite/__init__.py | cksum)
    for record in "$stamp" "$VENV/.installed-dev"; do # what developers need includes what users need
        [ -x "$VENV/bin/satellite" ] && [ -f "$record" ] && [ "$(cat "$record")" = "$wanted" ] && return
    done
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        fail "this Python cannot make virtual environments; on Debian or Ubuntu: sudo apt install python3-venv (or python$version-venv)"
    fi
    [ -x "$VENV/bin/python" ] || "$python" -m venv "$VENV"
    printf 'installing into %s\n' "$VENV" >&2
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".${extras:+[$extras]}" >&2 ||
        fail "the packages could not be installed; see the message of pip above"
    "$VENV/bin/python" -m compileall -q satellite >&2 # else every start would, where Python is told to keep nothing
    printf '%s' "$wanted" >"$stamp"
}

# Run the tests, some files at a time; those that take longest come early, so they stay in order.
run_tests() {
    exec "$VENV/bin/python" -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
}

# Make sure that there is a program of the system: $1 needs it, Debian's package $2 has it, and $3 ... are its names.
# Install it where we may.
ensure_program() {
    purpose=$1
    package=$2
    shift 2
    for name in "$@"; do
        PATH="$PATH:/usr/sbin" command -v "$name" >/dev/null && return
    done
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        printf 'installing %s, for %s\n' "$package" "$purpose" >&2
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package"; } >/dev/null &&
            PATH="$PATH:/usr/sbin" command -v "$1" >/dev/null && return
    fi
    fail "$purpose need $package; on Debian or Ubuntu: sudo apt install $package"
}
