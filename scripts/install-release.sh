# shellcheck shell=sh disable=SC2034,SC2153  # the variables are install.sh's
# The part of install.sh that installs packages, the user, and the release in a folder of its own. Sourced, not run.

# With -I, Python imports nothing from the current folder, the user's folder or $PYTHONPATH.
find_python() {
    PYTHON=
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -I -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            PYTHON=$candidate
            return
        fi
    done
}

python_and_machine() { "$PYTHON" -I -c 'import sys, platform; print("%d.%d" % sys.version_info[:2], platform.machine())'; }

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
    if [ -z "$DRY" ]; then
        installed_packages >"$WORK/packages"
        undo packages
    fi
    change apt-get -qq -o DPkg::Lock::Timeout=60 update
    change env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -y -o DPkg::Lock::Timeout=60 --no-install-recommends install "$@" >&2
    [ -n "$DRY" ] || find_python
    [ -n "$DRY$PYTHON" ] || fail "there is no Python 3.11 or newer" "Debian 12, Ubuntu 24.04, or a newer system"
}

# Print the lists in requirements/ that are installed beside base.txt.
extras() { say "local-chat systemd ${MICROPHONE:+mic }$(if [ -n "$CUDA" ]; then say gpu; else say cpu; fi)"; }

# Print a short checksum of the names and contents of files and folders of the sources.
sum_of() {
    (cd "$HERE" && find "$@" -type f ! -name '*.pyc' ! -name _version.py | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum | cut -c 1-8)
}

# Print the last tag of the sources, and what follows it, as `git describe` does: of a clone, of an archive, of an sdist.
described() {
    if [ -e "$HERE/.git" ] &&
        git -c safe.directory="$HERE" -C "$HERE" describe --tags --match 'v[0-9]*' --always 2>/dev/null; then return; fi
    cat "$HERE/.git_archival.txt" "$HERE/PKG-INFO" 2>/dev/null | sed -n 's/^describe-name: \(v.*\)/\1/p; s/^Version: /v/p'
}

# Print the version as the build would, with a checksum, so that different sources have different versions.
version() {
    last=$(described)
    case $last in
    v*-*-g*) last=$(say "$last" | sed 's/^v\(.*\)-\(.*\)-\(g.*\)/\1.post1.dev\2+\3./') ;;
    v*+*) last=${last#v}. ;;
    v*) last=${last#v}+ ;;
    *) last=0.0+${last:+g$last.} ;;
    esac
    say "$last$(sum_of satellite pyproject.toml requirements)"
}

# The identity of what would be installed; if it is installed already, there is nothing to do.
release_id() { say "$(version)-$(extras | tr ' ' -)"; }

# Copy the sources, so that building does not change the folder.
copy_sources() {
    mkdir "$WORK/source"
    for part in $SOURCES; do
        cp -R -- "$HERE/$part" "$WORK/source/"
    done
}

# Run pip in the environment $1. Its cache is deleted with this script. Only wheels are installed, which run no code meanwhile.
pip() {
    environment=$1
    shift
    patiently "$environment" env PIP_CACHE_DIR="$WORK/pip" PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 \
        "$environment/bin/python" -I -m pip "$@"
}

# Install the lists of packages $2... into the environment $1, each with its version and hash.
pip_install() {
    environment=$1
    shift
    lists "$@" >"$WORK/packages.txt"
    pip_install_file "$environment" "$WORK/packages.txt"
}

lists() { for use; do cat "$HERE/requirements/$use.txt"; done; }

pip_install_file() {
    environment=$1
    set -- --only-binary :all: --no-deps --require-hashes -r "$2"
    if [ -n "$OFFLINE" ]; then set -- --no-index --find-links "$OFFLINE/wheels" "$@"; fi
    pip "$environment" install -q "$@" || fail \
        "$(why "pip could not install the packages, see above" "$PREFIX")" \
        "check the network, or prepare them elsewhere: ./install.sh --prepare DIR, then --offline DIR"
}

prepare() {
    step "fetching packages and models into $FOLDER" "check the network and the names, and run this again"
    find_python
    [ -n "$PYTHON" ] || fail "there is no Python 3.11 or newer with venv" "apt install python3-venv"
    [ "$GPU" != cuda ] || CUDA=1
    if [ -e "$FOLDER" ] && [ ! -e "$FOLDER/prepared" ] && [ -n "$(ls -A "$FOLDER")" ]; then
        fail "$FOLDER contains something else" "--prepare with a new folder"
    fi
    install -d "$FOLDER"
    if [ "$(id -u)" = 0 ]; then check_root_owns "$FOLDER"; fi
    exec 9>"$FOLDER/prepared"
    flock -n 9 || fail "it is already running for $FOLDER" "wait until it has ended"
    WORK=$FOLDER/.part
    rm -rf "$WORK"
    install -d -m 700 "$WORK"
    export TMPDIR="$WORK"
    copy_sources
    "$PYTHON" -I -m venv "$WORK/venv"
    step "fetching packages into $FOLDER" "check the network, and run this again"
    rm -rf "$FOLDER/wheels"
    # shellcheck disable=SC2046  # a list of words
    lists build base $(extras) >"$WORK/packages.txt"
    pip "$WORK/venv" download -q --only-binary :all: --no-deps --require-hashes -d "$FOLDER/wheels" -r "$WORK/packages.txt"
    OFFLINE=$FOLDER
    build_wheel
    # shellcheck disable=SC2046
    pip_install "$WORK/venv" base $(extras)
    pip "$WORK/venv" install -q --no-deps "$WHEEL"
    step "fetching models into $FOLDER" "check the network and the names, and run this again"
    names=
    [ -z "$WHISPER" ] || names="stt/$WHISPER"
    [ -z "$VOICE" ] || names="$names tts/$VOICE"
    # shellcheck disable=SC2086  # a list of words
    run "$WORK/venv/bin/python" -I -m satellite models pull --directory "$FOLDER/models" demo $names
    say "$(python_and_machine) $(extras | tr ' ' ,) $(sum_of pyproject.toml requirements)" >&9
    say "done; on the other machine: sudo ./install.sh --offline $FOLDER"
}

make_user() {
    if [ -z "$(account 1)" ]; then
        step "creating the user satellite"
        undo account
        change useradd --system --user-group --comment "$MADE_ACCOUNT" --home-dir "$STATE" --no-create-home \
            --shell /usr/sbin/nologin satellite
    fi
    if [ ! -d "$STATE" ]; then
        undo remove "$STATE"
        change install -d -o satellite -g satellite -m 750 "$STATE"
    elif [ "$(stat -L -c %U "$STATE")" != satellite ]; then # root's, or that of an account that is gone
        step "giving $STATE to the user satellite"
        undo owner "$STATE" "$(stat -L -c %u:%g "$STATE")"
        change chown -hR satellite:satellite "$STATE/"
    fi
    if [ -z "$DRY" ] && [ ! -d "$STATE/models" ]; then
        undo rmdir "$STATE/models"
        as_service mkdir -m 750 "$STATE/models"
    fi
}

# Packages that reading the configuration needs: they are installed first, to check it before the long work.
LIGHT="annotated-types filelock pydantic pydantic-core pyyaml typing-extensions typing-inspection"

# Print how many megabytes a release needs while it is installed.
release_megabytes() { if [ -n "$CUDA" ]; then say 8000; else say 1500; fi; }

make_release() {
    if [ -e "$RELEASE/.complete" ] && "$RELEASE/bin/python" -I -m satellite --version >/dev/null 2>&1; then
        check_configuration
        return
    fi
    check_space "$(release_megabytes)" "$PREFIX"
    if [ -n "$DRY" ]; then
        step "installing $(basename "$RELEASE") into $PREFIX: $(if [ -n "$CUDA" ]; then say 8; else say 0.8; fi) GB"
        [ -z "$old" ] || say "    in place of $(basename "$old")"
        change "$PYTHON" -I -m venv "$RELEASE"
        return
    fi
    step "checking the configuration with $(basename "$RELEASE")" "check the messages above"
    CHANGED=1
    make_folder "$PREFIX/releases"
    undo remove "$RELEASE"
    rm -rf "$RELEASE" # of a Python that is gone
    run "$PYTHON" -I -m venv "$RELEASE"
    copy_sources
    build_wheel
    lists base | awk -v light=" $LIGHT " '/==/ { wanted = index(light, " " substr($1, 1, index($1, "==") - 1) " ") } wanted' \
        >"$WORK/light.txt"
    pip_install_file "$RELEASE" "$WORK/light.txt"
    pip "$RELEASE" install -q --no-deps "$WHEEL"
    check_configuration
    step "installing $(basename "$RELEASE") into $PREFIX${old:+, in place of $(basename "$old")}" "check the messages above"
    # shellcheck disable=SC2046  # a list of words
    pip_install "$RELEASE" base $(extras)
    say "$HERE" >"$RELEASE/.sources" # for satellite doctor, which says how this script is called again
    touch "$RELEASE/.complete"
}

build_wheel() {
    run "$PYTHON" -I -m venv "$WORK/build"
    pip_install "$WORK/build" build
    mkdir "$WORK/wheel"
    SETUPTOOLS_SCM_PRETEND_VERSION=$(version)
    export SETUPTOOLS_SCM_PRETEND_VERSION
    pip "$WORK/build" wheel -q --no-deps --no-build-isolation -w "$WORK/wheel" "$WORK/source" ||
        fail "$(why "the sources could not be built, see above" "$PREFIX")" "check the network"
    WHEEL=$(echo "$WORK"/wheel/*.whl)
}
