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
                        (these three hold for later runs too, until another --gpu, or until the file
                        microphone.conf or hosted.conf in satellite.service.d is deleted)
  --with-ollama         install Ollama by its official installer, and keep its models loaded and on the GPU
  --model NAME          chat model, fetched by the Ollama of this machine
  --whisper NAME        speech to text model      (these four go into a new configuration;
  --voice NAME          voice                      an existing one is never changed)
  --wake-word NAME      wake word

  --prepare DIR         fetch what --offline needs into DIR, on a machine like this one; needs no root
  --offline DIR         take packages and models from DIR instead of the network

environment: OLLAMA_INSTALLER  where Ollama's installer is (default: https://ollama.com/install.sh), for a mirror;
             pip's own variables, such as PIP_INDEX_URL
USAGE
}

PREFIX=/opt/satellite
CONFIG=/etc/satellite/config.yaml
STATE=/var/lib/satellite
SYSTEM=/etc/systemd/system
UNIT=$SYSTEM/satellite.service
DROPINS=$UNIT.d
OPENINGS="gpu microphone hosted restart credentials"
OLLAMA_DROPIN=$SYSTEM/ollama.service.d/satellite.conf
COMMAND=/usr/local/bin/satellite

say() { printf '%s\n' "$*"; }

# Print the step that failed, the cause and the remedy, and end; what this run has done is taken back on the way out.
fail() {
    printf 'error: %s\n  cause:  %s\n  remedy: %s\n' "$STEP" "$1" "$2" >&2
    EXPLAINED=1
    exit 1
}

# Begin a step. Arguments: what it does, and the remedy where a command in it fails and tells no better one.
step() {
    STEP=$1
    REMEDY=${2:-mend that, and run this again}
    say "- $1"
}

# Run a command that changes something, or say that it would be run.
change() {
    CHANGED=1
    if [ -n "$DRY" ]; then say "    would run: $*"; else "$@"; fi
}

# Take a change back if it, or a later step, fails: a command that does no harm where there is nothing to take back.
undo() {
    [ -n "$DRY" ] || UNDO="$1
$UNDO"
}

# shellcheck disable=SC2329  # main traps EXIT with it
on_exit() {
    status=$?
    trap - EXIT
    trap '' INT TERM HUP
    if [ "$status" -ne 0 ] && [ -n "$STEP" ]; then
        [ -n "$EXPLAINED" ] ||
            printf 'error: %s\n  cause:  see the message above\n  remedy: %s\n' "$STEP" "$REMEDY" >&2
        [ -z "$UNDO" ] || say "taking back what was done"
        printf '%s\n' "$UNDO" | while IFS= read -r line; do
            [ -z "$line" ] || sh -c "$line" >/dev/null 2>&1 || printf 'warning: could not undo: %s\n' "$line" >&2
        done
    fi
    [ -z "$SCRATCH" ] || rm -rf "$SCRATCH"
    exit "$status"
}

# Keep a file as it is now, for the way back.
keep() {
    KEPT=$((KEPT + 1))
    [ -n "$DRY" ] || cp -p "$1" "$SCRATCH/kept.$KEPT"
    undo "cp -p '$SCRATCH/kept.$KEPT' '$1'"
}

# Put a file where it belongs unless the same one is there. Arguments: source, target, mode.
put() {
    if cmp -s "$1" "$2"; then return; fi
    folder=$(dirname "$2")
    if [ ! -d "$folder" ]; then
        undo "[ ! -d '$folder' ] || rmdir '$folder'"
        change install -d -m 755 "$folder"
    fi
    if [ -e "$2" ]; then keep "$2"; else undo "rm -f '$2'"; fi
    change install -m "$3" "$1" "$2"
}

# Take a file away that is wanted no more.
drop() {
    if [ ! -e "$1" ]; then return; fi
    keep "$1"
    change rm -f "$1"
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
    case $GPU in '' | auto | cuda | cpu) ;; *) fail "--gpu $GPU" "one of auto, cuda, cpu" ;; esac
    [ -z "$PURGE" ] || [ "$ACTION" = uninstall ] || fail "--purge without --uninstall" "$0 --uninstall --purge"
    case "$MODEL$WHISPER$VOICE$WAKE_WORD" in
    *[!A-Za-z0-9._:/@-]*) fail "a name with characters that no model has" "letters, digits and . _ : / @ -" ;;
    esac
    [ -z "$OFFLINE" ] || [ -d "$OFFLINE/wheels" ] || fail "there is no folder $OFFLINE/wheels" "$0 --prepare $OFFLINE"
}

check_system() {
    step "checking the system"
    [ "$(uname -s)" = Linux ] || fail "this is $(uname -s)" "a Linux host, such as Debian 12 or Ubuntu 24.04"
    case $(uname -m) in x86_64 | aarch64) ;; *) fail "there are no packages for $(uname -m)" "x86_64 or aarch64" ;; esac
    [ -e "$HERE/pyproject.toml" ] || fail "the sources are not beside this script" "run it in a clone of the repository"
    [ -n "$DRY" ] || [ "$(id -u)" = 0 ] || fail "you are not root" "sudo $0"
    [ -d /run/systemd/system ] || fail "systemd does not run here" "a host started by systemd, or docs/install.md"
    if [ -z "$DRY" ]; then
        exec 9<"$HERE/install.sh"
        flock -n 9 || fail "it runs already" "wait until that has ended"
    fi
}

# Leave out nothing that was chosen at an earlier time: the drop-ins and the packages tell.
recall() {
    [ ! -e "$DROPINS/microphone.conf" ] || MICROPHONE=1
    [ ! -e "$DROPINS/hosted.conf" ] || HOSTED=1
    case $GPU:$(readlink "$PREFIX/current" 2>/dev/null) in
    :) GPU=auto ;;
    :*gpu) CUDA=1 ;;
    esac
    case $GPU in cuda | auto) ;; *) return 0 ;; esac
    if [ -e /dev/nvidiactl ]; then
        CUDA=1
    elif [ "$GPU" = cuda ]; then
        fail "--gpu cuda, but the NVIDIA driver is not there (no /dev/nvidiactl)" "install it, or --gpu cpu"
    else
        say "    no NVIDIA GPU was found: everything runs on the CPU"
    fi
}

install_all() {
    recall
    need_packages
    check_ports
    DEMAND=
    [ "$GPU" != cuda ] || DEMAND=1
    RELEASE=$PREFIX/releases/$(release_id)
    if [ "$ACTION" = install ] && [ -e "$PREFIX/current" ] && [ "$(readlink "$PREFIX/current")" != "$RELEASE" ]; then
        fail "$(basename "$(readlink "$PREFIX/current")") is installed, and this is another" "$0 --upgrade"
    fi
    fetch_ollama_installer
    make_user
    make_release
    make_config
    fetch_models
    setup_ollama
    fetch_chat_model
    place_units
    start
    clean
    goodbye
}

main() {
    ACTION=install PURGE='' DRY='' MICROPHONE='' HOSTED='' WITH_OLLAMA='' GPU='' MODEL='' WHISPER='' VOICE=''
    WAKE_WORD='' FOLDER='' OFFLINE='' STEP='reading the options' REMEDY="$0 --help" EXPLAINED='' UNDO='' CHANGED=''
    CUDA='' KEPT=0 SCRATCH=''
    PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
    umask 022
    trap on_exit EXIT
    trap 'exit 130' INT TERM HUP
    HERE=$(cd "$(dirname "$0")" && pwd)
    # shellcheck source=scripts/install-release.sh
    . "$HERE/scripts/install-release.sh"
    # shellcheck source=scripts/install-service.sh
    . "$HERE/scripts/install-service.sh"
    parse "$@"
    export TMPDIR="${TMPDIR:-/var/tmp}" # /tmp may be in memory, and NVIDIA's packages are larger than that
    SCRATCH=$(mktemp -d)
    case $ACTION in
    prepare) prepare ;;
    uninstall)
        check_system
        uninstall
        ;;
    *)
        check_system
        install_all
        ;;
    esac
}

# One line, so that a script that is replaced while it runs is read no further.
main "$@"; exit
