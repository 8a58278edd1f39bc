# shellcheck shell=sh disable=SC2034,SC2153  # the variables are install.sh's
# The part of install.sh that makes what runs: packages, the user, the release in its own folder. Sourced, not run.

find_python() {
    PYTHON=
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            PYTHON=$candidate
            return
        fi
    done
}

need_packages() {
    find_python
    set --
    [ -n "$PYTHON" ] || set -- python3-venv
    if [ -n "$MICROPHONE" ] && ! ldconfig -p | grep -q libportaudio.so.2; then set -- "$@" libportaudio2; fi
    if [ -n "$WITH_OLLAMA" ] && ! command -v curl >/dev/null; then set -- "$@" curl ca-certificates; fi
    [ $# -gt 0 ] || return 0
    step "installing the packages $*" "apt-get update; apt-get install $*; then run this again"
    [ -z "$OFFLINE" ] || fail "they are not installed, and --offline was given" "install them from your own mirror"
    command -v apt-get >/dev/null || fail "they are not installed, and there is no apt-get" "install them by hand"
    packages="dpkg-query -W -f '\${db:Status-Abbrev}\${binary:Package}\n' | sort"
    [ -n "$DRY" ] || sh -c "$packages" >"$SCRATCH/packages"
    undo "$packages | comm -13 '$SCRATCH/packages' - | cut -c 4- | xargs -r apt-get -qq -y purge"
    change apt-get -qq -o DPkg::Lock::Timeout=60 update
    change env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -y -o DPkg::Lock::Timeout=60 --no-install-recommends install "$@" >&2
    [ -n "$DRY" ] || find_python
    [ -n "$DRY$PYTHON" ] || fail "there is no Python 3.11 or newer" "Debian 12, Ubuntu 24.04, or a newer system"
}

# See before the long work whether the daemon will have its ports; where there is a configuration, it has its own.
check_ports() {
    [ -z "$DRY" ] && [ ! -e "$CONFIG" ] && [ ! -e "$PREFIX/current" ] || return 0
    taken=$("$PYTHON" - <<'PYTHON'
import socket

for port in (10600, 10200, 10300, 10400, 10500, 10800):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            print(port, end=" ")
PYTHON
    )
    [ -z "$taken" ] || fail "another program listens at the port ${taken% }" \
        "stop it (ss -ltnp shows which it is), or write other ports into $CONFIG first: see config.yaml.example"
}

# Copy the sources, so that building leaves the folder as it is.
copy_sources() {
    mkdir "$SCRATCH/source"
    for part in pyproject.toml constraints.txt README.md LICENSE satellite; do
        cp -R "$HERE/$part" "$SCRATCH/source/"
    done
}

extras() {
    list=systemd
    [ -z "$MICROPHONE" ] || list=$list,mic
    [ -z "$CUDA" ] || list=$list,gpu
    say "[$list]"
}

# Run pip in the environment $1; what it keeps ends with this script.
pip() {
    environment=$1
    shift
    PIP_CACHE_DIR=$SCRATCH/pip PIP_DISABLE_PIP_VERSION_CHECK=1 "$environment/bin/python" -m pip "$@"
}

pip_install() {
    environment=$1
    shift
    if [ -n "$OFFLINE" ]; then set -- --no-index --find-links "$OFFLINE/wheels" "$@"; fi
    pip "$environment" install -q -c "$SCRATCH/source/constraints.txt" "$@"
}

prepare() {
    step "fetching packages and models into $FOLDER" "check the network and the names, and run this again"
    find_python
    [ -n "$PYTHON" ] || fail "there is no Python 3.11 or newer with venv" "apt install python3-venv"
    [ "$GPU" != cuda ] || CUDA=1
    mkdir -p "$FOLDER/wheels"
    copy_sources
    "$PYTHON" -m venv "$SCRATCH/venv"
    pip "$SCRATCH/venv" wheel -q -c "$SCRATCH/source/constraints.txt" -w "$FOLDER/wheels" \
        "$SCRATCH/source$(extras)" "setuptools>=77" wheel
    pip "$SCRATCH/venv" install -q --no-index --find-links "$FOLDER/wheels" satellite-voice
    names=
    [ -z "$WHISPER" ] || names="stt/$WHISPER"
    [ -z "$VOICE" ] || names="$names tts/$VOICE"
    # shellcheck disable=SC2086  # a list of words
    "$SCRATCH/venv/bin/satellite" models pull --directory "$FOLDER/models" demo $names
    say "done; on the other machine: sudo ./install.sh --offline $FOLDER"
}

# The identity of what would be installed: nothing is to be done when it is there already.
release_id() {
    version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$HERE/satellite/__init__.py")
    sum=$(cd "$HERE" && find satellite pyproject.toml constraints.txt -type f ! -name '*.pyc' | LC_ALL=C sort |
        xargs cat | cksum | cut -d ' ' -f 1)
    say "$version-$sum-$(extras | tr -d '[]' | tr , -)"
}

make_user() {
    if ! id satellite >/dev/null 2>&1; then
        step "making the user satellite"
        undo "! id satellite || userdel satellite"
        change useradd --system --user-group --home-dir "$STATE" --no-create-home --shell /usr/sbin/nologin satellite
    fi
    for folder in "$STATE" "$STATE/models"; do
        [ ! -d "$folder" ] || continue
        undo "rm -rf '$folder'"
        change install -d -o satellite -g satellite -m 750 "$folder"
    done
}

check_space() {
    wanted=$1
    folder=$2
    while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
    free=$(df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1024) }')
    [ "$free" -ge "$wanted" ] || fail "only $free MB are free in $folder" "free $wanted MB there"
}

make_release() {
    if [ -e "$RELEASE/.complete" ] && "$RELEASE/bin/satellite" --version >/dev/null 2>&1; then return; fi
    step "installing $(basename "$RELEASE") into $PREFIX" "check the messages above"
    check_space "$(if [ -n "$CUDA" ]; then say 8000; else say 1500; fi)" "$PREFIX"
    if [ -n "$DRY" ]; then
        change "$PYTHON" -m venv "$RELEASE"
        return
    fi
    CHANGED=1
    for folder in "$PREFIX" "$PREFIX/releases"; do [ -d "$folder" ] || undo "[ ! -d '$folder' ] || rmdir '$folder'"; done
    undo "rm -rf '$RELEASE'"
    rm -rf "$RELEASE" # half of one, or of a Python that is gone
    "$PYTHON" -m venv "$RELEASE"
    copy_sources
    pip_install "$RELEASE" "$SCRATCH/source$(extras)" || fail "pip could not install the packages, see above" \
        "check the network, or prepare them elsewhere: ./install.sh --prepare DIR, then --offline DIR"
    if [ -n "$CUDA" ]; then # both packages own the same files: take both away, then put one back
        pip "$RELEASE" uninstall -q -y onnxruntime onnxruntime-gpu
        pip_install "$RELEASE" --no-deps onnxruntime-gpu
    fi
    cp "$HERE/config.yaml.example" "$RELEASE/"
    touch "$RELEASE/.complete"
}
