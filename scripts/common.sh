# shellcheck shell=sh
# Shared by the scripts beside it; sourced, not run.
# Leaves the working directory at the root of the project.

cd "$(dirname "$0")/.." || exit
VENV=${VENV:-.venv}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Print the first Python that is new enough: $PYTHON, the default one, or a versioned one.
find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer was found; on Debian or Ubuntu: sudo apt install python3 python3-venv"
}

# Make the environment in $VENV with the extra named $1 (such as "dev"), unless it is up to date.
ensure_environment() {
    extra=$1
    python=$(find_python)
    stamp="$VENV/.installed-$extra"
    wanted=$(cat pyproject.toml requirements/*.txt && git rev-parse HEAD 2>/dev/null | cksum) # each commit has its own version
    for record in "$stamp" "$VENV/.installed-dev"; do # the developers' list includes the users'
        [ -x "$VENV/bin/satellite" ] && [ -f "$record" ] && [ "$(cat "$record")" = "$wanted" ] && return
    done
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        fail "this Python cannot make virtual environments; on Debian or Ubuntu: sudo apt install python3-venv (or python$version-venv)"
    fi
    [ -x "$VENV/bin/python" ] || "$python" -m venv "$VENV"
    printf 'installing into %s\n' "$VENV" >&2
    pip() { "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$@" >&2; }
    set -- -r requirements/build.txt -r requirements/base.txt -r requirements/cpu.txt -r "requirements/$extra.txt"
    { pip --require-hashes "$@" && pip --no-build-isolation -e .; } ||
        fail "the packages could not be installed; see the message of pip above"
    "$VENV/bin/python" -m compileall -q satellite >&2 # otherwise every start would, where Python is configured to write no bytecode
    printf '%s' "$wanted" >"$stamp"
}

# Run the tests, several files at a time, in order: the slowest files come first. Tests wait more than they compute, so there
# are more processes than cores. Each process imports all tests; without bytecode it would compile them again, which takes
# most of the time of the fast tests.
run_tests() {
    unset PYTHONDONTWRITEBYTECODE
    cores=$(getconf _NPROCESSORS_ONLN)
    set -- --max-worker-restart 3 --dist loadfile --no-loadscope-reorder "$@"
    exec "$VENV/bin/python" -m pytest -n $((cores < 3 ? cores + 1 : 4)) "$@"
}

# Check that the system has the packages that $1 need, before the long work; install them as root, else name all that are
# missing. Each further argument is a Debian package, a colon, and names of programs, shared libraries or Python modules, one of
# which the package must provide.
ensure_packages() {
    purpose=$1
    shift
    missing=
    for entry; do
        # shellcheck disable=SC2086  # one word a name
        has_one_of ${entry#*:} || missing="$missing ${entry%%:*}"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        printf 'installing%s, for %s\n' "$missing" "$purpose" >&2
        # shellcheck disable=SC2086  # one word a package
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/dev/null ||
            fail "$purpose need$missing, and apt-get could not install it"
        return
    fi
    fail "$purpose need$missing; on Debian or Ubuntu: sudo apt install$missing"
}

# Whether one of the programs, shared libraries (*.so.*) or Python's modules (*.py) is there.
has_one_of() {
    for name; do
        case $name in
        *.py) "$(find_python)" -c "import ${name%.py}" 2>/dev/null && return ;;
        *.so.*) for folder in /lib /lib64 /usr/lib /lib/*-linux-* /usr/lib/*-linux-*; do [ -e "$folder/$name" ] && return; done ;;
        *) PATH="$PATH:/usr/sbin:/sbin" command -v "$name" >/dev/null && return ;;
        esac
    done
    return 1
}

# Make a machine's system in the folder $1: a minimal Debian $2 with the packages $3 (separated by commas). An existing one
# with these packages is kept.
ensure_debian() {
    [ "$(cat "$1/.packages" 2>/dev/null)" = "$3" ] && return
    printf 'making a Debian %s in %s\n' "$2" "$1" >&2
    mkdir -p "$(dirname "$1")"
    rm -rf "$1" "$1.part"
    debootstrap --variant=minbase --include="$3" "$2" "$1.part" >"$1.log" 2>&1 || fail "debootstrap failed: $1.log"
    echo "$3" >"$1.part/.packages"
    mv "$1.part" "$1"
}
