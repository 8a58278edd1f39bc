#!/bin/sh
# Install satellite as a service of systemd, from the folder in which this script lies.
#
#   sudo ./install.sh                    install, or repair; run twice, it changes nothing
#   sudo ./install.sh --upgrade          replace an older version; the old one comes back if the new one does not start
#   sudo ./install.sh --help             everything else
#
# All of it is in main, called in the last line, so that half of a script does nothing.
set -eu

usage() {
    cat <<'USAGE'
usage: install.sh [OPTION]...

  --upgrade             replace an installed version; it comes back if the new one does not get ready
  --uninstall           remove the service; configuration and models stay
  --purge               with --uninstall: remove them, and the user, as well
  --dry-run             say what would be done, and do nothing

  --gpu auto|cuda|cpu   where the engines run (default: auto, which is CUDA where there is an NVIDIA GPU)
  --microphone          open the host's own microphone and speaker
  --hosted              open the internet, for a hosted chat provider
  --with-ollama         install Ollama by its official installer, and keep its models loaded
  --model NAME          chat model, fetched by Ollama
  --whisper NAME        speech to text model      (these four go into a new configuration;
  --voice NAME          voice                      an existing one is never changed)
  --wake-word NAME      wake word

  --prepare DIR         fetch what --offline needs into DIR, on a machine like this one; needs no root
  --offline DIR         take packages and models from DIR instead of the network
USAGE
}

PREFIX=/opt/satellite
CONFIG=/etc/satellite/config.yaml
STATE=/var/lib/satellite
UNIT=/etc/systemd/system/satellite.service
DROPINS=$UNIT.d

say() { printf '%s\n' "$*"; }

# Print the step that failed, the cause and the remedy, and end; what this run has done is taken back on the way out.
fail() {
    printf 'error: %s\n  cause:  %s\n  remedy: %s\n' "$STEP" "$1" "$2" >&2
    EXPLAINED=1
    exit 1
}

step() {
    STEP=$1
    say "- $1"
}

# Run a command that changes something, or say that it would be run.
change() {
    CHANGED=1
    if [ -n "$DRY" ]; then say "    would run: $*"; else "$@"; fi
}

# Take a change back if a later step fails.
undo() { UNDO="$1
$UNDO"; }

on_exit() {
    status=$?
    trap - EXIT
    if [ "$status" -ne 0 ] && [ -n "$STEP" ]; then
        [ -n "$EXPLAINED" ] || printf 'error: %s\n  cause:  see the message above\n' "$STEP" >&2
        [ -z "$UNDO" ] || say "taking back what was done"
        printf '%s\n' "$UNDO" | while IFS= read -r line; do
            [ -z "$line" ] || sh -c "$line" >/dev/null 2>&1 || printf 'warning: could not undo: %s\n' "$line" >&2
        done
    fi
    [ -z "$SCRATCH" ] || rm -rf "$SCRATCH"
    exit "$status"
}

# Put a file where it belongs unless the same one is there. Arguments: source, target, mode.
put() {
    if cmp -s "$1" "$2"; then return; fi
    if [ -e "$2" ]; then
        [ -n "$DRY" ] || cp -p "$2" "$SCRATCH/$(basename "$2").before"
        undo "cp -p '$SCRATCH/$(basename "$2").before' '$2'"
    else
        undo "rm -f '$2'"
    fi
    change install -D -m "$3" "$1" "$2"
}

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
        --upgrade | --uninstall) ACTION=${1#--} ;;
        --purge) PURGE=1 ;;
        --dry-run) DRY=1 ;;
        --microphone) MICROPHONE=1 ;;
        --hosted) HOSTED=1 ;;
        --with-ollama) WITH_OLLAMA=1 ;;
        --gpu | --model | --whisper | --voice | --wake-word | --prepare | --offline)
            [ $# -ge 2 ] || fail "$1 needs a value" "$0 --help"
            case $1 in
            --gpu) GPU=$2 ;;
            --model) MODEL=$2 ;;
            --whisper) WHISPER=$2 ;;
            --voice) VOICE=$2 ;;
            --wake-word) WAKE_WORD=$2 ;;
            --prepare) ACTION=prepare FOLDER=$2 ;;
            --offline) OFFLINE=$2 ;;
            esac
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) fail "unknown option $1" "$0 --help" ;;
        esac
        shift
    done
    case $GPU in auto | cuda | cpu) ;; *) fail "--gpu $GPU" "one of auto, cuda, cpu" ;; esac
    case "$MODEL$WHISPER$VOICE$WAKE_WORD" in
    *[!A-Za-z0-9._:/@-]*) fail "a name with characters that no model has" "letters, digits and . _ : / @ -" ;;
    esac
}

check_system() {
    step "checking the system"
    [ "$(uname -s)" = Linux ] || fail "this is $(uname -s)" "a Linux host, such as Debian 12 or Ubuntu 24.04"
    case $(uname -m) in x86_64 | aarch64) ;; *) fail "there are no packages for $(uname -m)" "x86_64 or aarch64" ;; esac
    [ -n "$DRY" ] || [ "$(id -u)" = 0 ] || fail "you are not root" "sudo $0"
    [ -d /run/systemd/system ] || fail "systemd does not run here" "a host started by systemd, or docs/install.md"
    free_kb=$(df -Pk /opt | awk 'NR == 2 { print $4 }')
    [ "$free_kb" -gt 2000000 ] || fail "only $((free_kb / 1024)) MB are free in /opt" "free 2 GB there"
    if [ "$GPU" != cpu ]; then
        if [ -e /dev/nvidiactl ]; then
            GPU=cuda
        elif [ "$GPU" = cuda ]; then
            fail "--gpu cuda, but the NVIDIA driver is not there (no /dev/nvidiactl)" "install it, or --gpu cpu"
        else
            GPU=cpu
            say "    no NVIDIA GPU was found: everything runs on the CPU"
        fi
    fi
}

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
    wanted=
    [ -n "$PYTHON" ] || wanted=python3-venv
    if [ -n "$MICROPHONE" ] && ! ldconfig -p | grep -q libportaudio.so.2; then wanted="$wanted libportaudio2"; fi
    [ -n "$wanted" ] || return 0
    step "installing the packages $wanted"
    [ -z "$OFFLINE" ] || fail "$wanted: not installed, and --offline was given" "install them from your own mirror"
    command -v apt-get >/dev/null || fail "$wanted: not installed, and there is no apt-get" "install them by hand"
    change apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    change apt-get install -qq -y --no-install-recommends $wanted >/dev/null
    [ -n "$DRY" ] || find_python
    [ -n "$DRY$PYTHON" ] || fail "there is no Python 3.11 or newer" "Debian 12, Ubuntu 24.04, or a newer system"
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
    [ "$GPU" != cuda ] || list=$list,gpu
    say "[$list]"
}

prepare() {
    step "fetching packages and models into $FOLDER"
    find_python
    [ -n "$PYTHON" ] || fail "there is no Python 3.11 or newer with venv" "apt install python3-venv"
    [ "$GPU" = cuda ] || GPU=cpu
    mkdir -p "$FOLDER/wheels"
    copy_sources
    "$PYTHON" -m venv "$SCRATCH/venv"
    pip="$SCRATCH/venv/bin/python -m pip --disable-pip-version-check"
    $pip wheel -q -c "$SCRATCH/source/constraints.txt" -w "$FOLDER/wheels" "$SCRATCH/source$(extras)" "setuptools>=77" wheel
    $pip install -q --no-index --find-links "$FOLDER/wheels" satellite-voice
    names=
    [ -z "$WHISPER" ] || names="stt/$WHISPER"
    [ -z "$VOICE" ] || names="$names tts/$VOICE"
    # shellcheck disable=SC2086  # a list of words
    "$SCRATCH/venv/bin/satellite" models pull --directory "$FOLDER/models" demo $names
    say "done; on the other machine: sudo ./install.sh --offline ${FOLDER}"
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
        undo "userdel satellite"
        change useradd --system --user-group --home-dir "$STATE" --no-create-home --shell /usr/sbin/nologin satellite
    fi
    for folder in "$STATE" "$STATE/models"; do
        [ ! -d "$folder" ] || continue
        undo "rm -rf '$folder'"
        change install -d -o satellite -g satellite -m 750 "$folder"
    done
}

make_release() {
    RELEASE=$PREFIX/releases/$(release_id)
    [ ! -e "$RELEASE/.complete" ] || return 0
    step "installing $(basename "$RELEASE") into $PREFIX"
    if [ -n "$DRY" ]; then
        change "$PYTHON" -m venv "$RELEASE"
        return
    fi
    CHANGED=1
    undo "rm -rf '$RELEASE'; rmdir '$PREFIX/releases' '$PREFIX' || :"
    rm -rf "$RELEASE"
    "$PYTHON" -m venv "$RELEASE"
    copy_sources
    pip="$RELEASE/bin/python -m pip --disable-pip-version-check --quiet"
    where=
    [ -z "$OFFLINE" ] || where="--no-index --find-links $OFFLINE/wheels"
    # shellcheck disable=SC2086  # a list of words
    pip_install() { $pip install $where -c "$SCRATCH/source/constraints.txt" "$@"; }
    pip_install "$SCRATCH/source$(extras)" || fail "pip could not install the packages, see above" \
        "check the network, or prepare them elsewhere: ./install.sh --prepare DIR, then --offline DIR"
    if [ "$GPU" = cuda ]; then # both packages own the same files: take both away, then put one back
        $pip uninstall -y onnxruntime onnxruntime-gpu
        pip_install --no-deps onnxruntime-gpu
    fi
    touch "$RELEASE/.complete"
}

make_config() {
    if [ -e "$CONFIG" ]; then
        case "$MODEL$WHISPER$VOICE$WAKE_WORD" in '') ;; *) say "    $CONFIG stays as it is: change it there" ;; esac
        return
    fi
    step "writing $CONFIG"
    {
        say "# Every setting, with its unit and default: config.yaml.example beside install.sh. Check: satellite check"
        [ "$GPU$WHISPER" = cpu ] || say "stt:"
        [ -z "$WHISPER" ] || say "  model: $WHISPER"
        [ "$GPU" = cpu ] || say "  device: cuda"
        [ "$GPU$VOICE" = cpu ] || say "tts:"
        [ -z "$VOICE" ] || say "  voice: $VOICE"
        [ "$GPU" = cpu ] || say "  device: cuda"
        [ -z "$WAKE_WORD" ] || say "wake:
  words: [$WAKE_WORD]"
        [ -z "$MODEL" ] || say "chat:
  providers:
    - type: ollama
      model: \"$MODEL\"
    - type: local"
    } >"$SCRATCH/config.yaml"
    [ -d "$(dirname "$CONFIG")" ] || undo "rmdir '$(dirname "$CONFIG")'"
    put "$SCRATCH/config.yaml" "$CONFIG" 640
    change chgrp satellite "$CONFIG"
}

satellite() { "$RELEASE/bin/satellite" --config "$CONFIG" "$@"; }

fetch_models() {
    step "checking configuration and models"
    if [ -n "$DRY" ]; then
        say "    would fetch the models that are missing"
        return
    fi
    problem=$(satellite check 2>&1 >/dev/null) || case $problem in
    *config-invalid*) fail "$problem" "mend $CONFIG" ;;
    *model-*)
        CHANGED=1
        if [ -n "$OFFLINE" ]; then
            cp -R "$OFFLINE/models/." "$STATE/models/"
            chown -R satellite:satellite "$STATE/models"
        fi
        satellite check >/dev/null 2>&1 || setpriv --reuid satellite --regid satellite --init-groups \
            env HOME="$STATE" "$RELEASE/bin/satellite" --config "$CONFIG" models pull configured ||
            fail "the models could not be fetched, see above" "check the network and the names in $CONFIG"
        ;;
    *) fail "${problem:-the command satellite does not work}" "another version" ;;
    esac
}

setup_ollama() {
    if [ -n "$WITH_OLLAMA" ] && ! command -v ollama >/dev/null; then
        step "installing Ollama by its official installer"
        [ -z "$OFFLINE" ] || fail "Ollama is not here, and --offline was given" "install it by hand"
        change curl -fsSL -o "$SCRATCH/ollama.sh" https://ollama.com/install.sh
        change sh "$SCRATCH/ollama.sh"
    fi
    if [ -n "$WITH_OLLAMA" ]; then
        printf '# From satellite: a model stays loaded, also between two questions.\n[Service]\nEnvironment=OLLAMA_KEEP_ALIVE=-1\n' \
            >"$SCRATCH/ollama.conf"
        put "$SCRATCH/ollama.conf" /etc/systemd/system/ollama.service.d/satellite.conf 644
    fi
    [ -n "$MODEL" ] || return 0
    step "fetching $MODEL by Ollama"
    [ -n "$DRY" ] || command -v ollama >/dev/null || fail "there is no Ollama here" "$0 --with-ollama --model $MODEL"
    change ollama pull "$MODEL"
}

place_units() {
    step "placing the unit"
    if [ -e "$PREFIX/current" ]; then # taken back last, when everything else is as it was
        undo "systemctl daemon-reload; systemctl restart satellite"
    else
        undo "systemctl daemon-reload"
    fi
    put "$HERE/systemd/satellite.service" "$UNIT" 644
    for name in gpu:"$(test "$GPU" != cuda || say 1)" microphone:"$MICROPHONE" hosted:"$HOSTED"; do
        [ -z "${name#*:}" ] || put "$HERE/systemd/${name%:*}.conf" "$DROPINS/${name%:*}.conf" 644
    done
    if [ -n "$(ls /etc/satellite/credentials 2>/dev/null)" ]; then
        cp "$HERE/systemd/credentials.conf" "$SCRATCH/credentials.conf"
        for file in /etc/satellite/credentials/*; do
            say "LoadCredential=$(basename "$file"):$file" >>"$SCRATCH/credentials.conf"
        done
        put "$SCRATCH/credentials.conf" "$DROPINS/credentials.conf" 644
    fi
    if [ "$(readlink /usr/local/bin/satellite 2>/dev/null)" != "$PREFIX/current/bin/satellite" ]; then
        undo "rm -f /usr/local/bin/satellite"
        change ln -sfn "$PREFIX/current/bin/satellite" /usr/local/bin/satellite
    fi
}

switch_to() {
    ln -sfn "$1" "$PREFIX/current.new"
    mv -T "$PREFIX/current.new" "$PREFIX/current"
}

start() {
    old=$(readlink "$PREFIX/current" 2>/dev/null || :)
    if [ -z "$CHANGED" ] && [ "$old" = "$RELEASE" ] && systemctl -q is-active satellite && systemctl -q is-enabled satellite; then
        return
    fi
    step "starting, and waiting until it is ready"
    if [ -n "$DRY" ]; then
        change systemctl enable --now satellite
        return
    fi
    CHANGED=1
    if [ -n "$old" ]; then
        undo "ln -sfn '$old' '$PREFIX/current.new'; mv -T '$PREFIX/current.new' '$PREFIX/current'"
    else
        undo "systemctl disable satellite; systemctl stop satellite; systemctl reset-failed satellite"
        undo "rm -f '$PREFIX/current'"
    fi
    switch_to "$RELEASE"
    systemctl daemon-reload
    systemctl -q enable satellite
    systemctl reset-failed satellite 2>/dev/null || :
    if ! systemctl restart satellite || ! satellite status >/dev/null; then
        journalctl -q -u satellite -n 8 -o cat >&2 || :
        fail "the daemon does not get ready; its last words are above" "journalctl -u satellite; satellite doctor"
    fi
    for release in "$PREFIX"/releases/*; do # the one before stays, for a way back by hand
        [ "$release" = "$RELEASE" ] || [ "$release" = "$old" ] || rm -rf "$release"
    done
}

goodbye() {
    UNDO=
    if [ -n "$DRY" ]; then
        say "nothing was changed: this was a dry run"
        return
    fi
    [ -n "$CHANGED" ] || say "everything is in place already; nothing was changed"
    say "
$(systemctl show -P StatusText satellite)
In Home Assistant: Settings > Devices & services. It is discovered there; otherwise add the integration Wyoming Protocol with"
    "$RELEASE/bin/python" - "$CONFIG" <<'PYTHON'
import sys
from pathlib import Path
from satellite.configfile import load
from satellite.wire.discovery import own_addresses
wyoming = load(Path(sys.argv[1])).wyoming
for address in own_addresses(wyoming.host) or [wyoming.host]:
    print(f"    host {address}   port {wyoming.port}")
PYTHON
    say "How it is: satellite status     What is wrong: satellite doctor     Log: journalctl -u satellite"
}

uninstall() {
    step "removing the service"
    [ ! -e "$UNIT" ] || change systemctl -q disable --now satellite
    change rm -rf "$UNIT" "$DROPINS" "$PREFIX" /usr/local/bin/satellite
    change systemctl daemon-reload
    if [ -n "$PURGE" ]; then
        change rm -rf "$(dirname "$CONFIG")" "$STATE"
        ! id satellite >/dev/null 2>&1 || change userdel satellite
    else
        say "    $(dirname "$CONFIG"), $STATE and the user satellite stay; --purge removes them"
    fi
}

main() {
    ACTION=install PURGE='' DRY='' MICROPHONE='' HOSTED='' WITH_OLLAMA='' GPU=auto MODEL='' WHISPER='' VOICE=''
    WAKE_WORD='' FOLDER='' OFFLINE='' STEP='reading the options' EXPLAINED='' UNDO='' CHANGED='' SCRATCH=''
    umask 022
    trap on_exit EXIT
    trap 'exit 130' INT TERM HUP
    HERE=$(cd "$(dirname "$0")" && pwd)
    parse "$@"
    SCRATCH=$(mktemp -d)
    case $ACTION in
    prepare)
        prepare
        return
        ;;
    uninstall)
        check_system
        uninstall
        return
        ;;
    esac
    check_system
    need_packages
    RELEASE=$PREFIX/releases/$(release_id)
    if [ "$ACTION" = install ] && [ -e "$PREFIX/current" ] && [ "$(readlink "$PREFIX/current")" != "$RELEASE" ]; then
        fail "$(basename "$(readlink "$PREFIX/current")") is installed, and this is another" "$0 --upgrade"
    fi
    make_user
    make_release
    setup_ollama
    make_config
    fetch_models
    place_units
    start
    goodbye
}

main "$@"
