#!/bin/sh
# Install satellite as a systemd service, from the folder that contains this script.
#
#   sudo ./install.sh                    install or repair; a second run changes nothing
#   sudo ./install.sh --upgrade          replace an older version; roll back if the new one does not start
#   sudo ./install.sh --help             everything else
#
# Everything is in main, called in the last line, so that a truncated script does nothing. It runs as root: nothing is run,
# read or written through a folder that another user may change, except the sources beside this script.
set -eu

usage() {
    cat <<'USAGE'
usage: install.sh [OPTION]...

  --upgrade             replace an installed version; roll back if the new one does not become ready
  --uninstall           remove the service; configuration and models stay
  --purge               with --uninstall: remove them, and the user, as well
  --dry-run             print what would be done, and do nothing

  --gpu auto|cuda|cpu   where the engines run (default: auto, which is CUDA where there is an NVIDIA GPU)
  --microphone          give access to the host's microphone and speaker
  --hosted              give access to the internet, for a hosted chat provider
                        (these three also apply to later runs, until another --gpu is given, or the file
                        microphone.conf or hosted.conf in satellite.service.d is deleted)
  --with-ollama         install Ollama with its official installer, and keep its models loaded and on the GPU
  --model NAME          chat model, fetched with this machine's Ollama
  --whisper NAME        speech to text model      (these four go into a new configuration;
  --voice NAME          voice                      an existing one is never changed)
  --wake-word NAME      wake word

  --prepare DIR         fetch what --offline needs into DIR, on a machine like this one; no root needed
  --offline DIR         take packages and models from DIR instead of the network
                        (DIR is an absolute path, such as /srv/satellite)

environment: OLLAMA_INSTALLER  where Ollama's installer is (default: https://ollama.com/install.sh), for a mirror;
             pip's own variables, such as PIP_INDEX_URL
USAGE
}

PREFIX=/opt/satellite
SETTINGS=/etc/satellite
CONFIG=$SETTINGS/config.yaml
STATE=/var/lib/satellite
SYSTEM=/etc/systemd/system
UNIT=$SYSTEM/satellite.service
DROPINS=$UNIT.d
OPENINGS="gpu microphone hosted restart credentials"
OLLAMA_DROPIN=$SYSTEM/ollama.service.d/satellite.conf
COMMAND=/usr/local/bin/satellite
SHARE=/usr/local/share
SHARED="man/man1/satellite.1 bash-completion/completions/satellite zsh/site-functions/_satellite
fish/vendor_completions.d/satellite.fish"
SOURCES="pyproject.toml hatch_build.py requirements README.md LICENSE config.yaml.example systemd satellite"
LOCK=/run/satellite-install.lock

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
            [ -n "$2" ] || fail "$1 has an empty value" "$0 --help"
            case $1 in
            --gpu) GPU=$2 ;;
            --model) MODEL=$2 ;;
            --whisper) WHISPER=$2 ;;
            --voice) VOICE=$2 ;;
            --wake-word) WAKE_WORD=$2 ;;
            --prepare) ACTION=prepare FOLDER=$(whole_path "$1" "$2") ;;
            --offline) OFFLINE=$(whole_path "$1" "$2") ;;
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
    [ -z "$DRY" ] || [ "$ACTION" != prepare ] || fail "--dry-run with --prepare" "one of them"
    for name in "$MODEL" "$WHISPER" "$VOICE" "$WAKE_WORD"; do
        case $name in -* | *[!A-Za-z0-9._:/@-]*) fail "'$name' is not a model's name" "letters, digits and . _ : / @ -" ;; esac
    done
}

# Print the path $2, given to the option $1, if it is absolute and plain.
whole_path() {
    newline='
'
    case $2 in
    *"$newline"* | */../* | */..) fail "$1 '$2' is not a plain path" "a plain one, such as /srv/satellite" ;;
    /*) printf '%s\n' "$2" ;;
    *) fail "$1 '$2' is not an absolute path" "$1 $(readlink -m -- "$CALLED_IN/$2")" ;;
    esac
}

# Keep what was chosen in an earlier run, which the drop-ins and the packages show.
recall() {
    [ ! -e "$DROPINS/microphone.conf" ] || MICROPHONE=1
    [ ! -e "$DROPINS/hosted.conf" ] || HOSTED=1
    [ "$GPU" != cuda ] || DEMAND=1
    case $GPU:$(readlink "$PREFIX/current" 2>/dev/null) in
    :) GPU=auto ;;
    :*gpu) CUDA=1 ;;
    esac
    case $GPU in cuda | auto) ;; *) return 0 ;; esac
    if [ -e /dev/nvidiactl ]; then
        CUDA=1
    elif [ "$GPU" = cuda ]; then
        fail "--gpu cuda, but no NVIDIA driver was found (no /dev/nvidiactl)" "install it, or --gpu cpu"
    else
        say "    no NVIDIA GPU was found: everything runs on the CPU"
    fi
}

# Keep a service disabled or stopped if an administrator disabled or stopped it.
recall_service() {
    ENABLE=1 START=1
    [ -e "$UNIT" ] && [ -e "$PREFIX/current" ] || return 0
    case $(systemctl is-enabled satellite 2>/dev/null) in enabled*) ;; *) ENABLE='' ;; esac
    case $(systemctl show -P ActiveState satellite) in inactive) START='' ;; esac
}

install_all() {
    check_places
    recall
    recall_service
    need_packages
    [ -z "$OFFLINE" ] || check_prepared
    STEP="checking the system"
    RELEASE=$PREFIX/releases/$(release_id)
    old=$(readlink "$PREFIX/current" 2>/dev/null || :)
    if [ "$ACTION" = install ] && [ -n "$old" ] && [ "$old" != "$RELEASE" ]; then
        fail "$(basename "$old") is installed, and this is $(basename "$RELEASE")" "$0 --upgrade"
    fi
    fetch_ollama_installer
    make_user
    make_config
    make_release
    fetch_models
    setup_ollama
    fetch_chat_model
    place_units
    place_shared
    start
    clean
    goodbye
}

main() {
    ACTION=install PURGE='' DRY='' MICROPHONE='' HOSTED='' WITH_OLLAMA='' GPU='' MODEL='' WHISPER='' VOICE='' CUDA=''
    WAKE_WORD='' FOLDER='' OFFLINE='' DEMAND='' STEP='reading the options' REMEDY="$0 --help" EXPLAINED='' CHANGED=''
    INTERRUPTED='' CREATED='' KEPT=0 WORK='' CHILD='' TICKER=''
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    CALLED_IN=$(pwd)
    unset CDPATH
    umask 022
    HERE=$(cd -- "$(dirname -- "$0")" && pwd -P)
    cd /
    # shellcheck source=scripts/install-tools.sh
    . "$HERE/scripts/install-tools.sh"
    # shellcheck source=scripts/install-checks.sh
    . "$HERE/scripts/install-checks.sh"
    # shellcheck source=scripts/install-release.sh
    . "$HERE/scripts/install-release.sh"
    # shellcheck source=scripts/install-service.sh
    . "$HERE/scripts/install-service.sh"
    trap on_exit EXIT
    trap 'INTERRUPTED=1; exit 130' INT
    trap 'INTERRUPTED=1; exit 143' TERM HUP
    if [ "$(id -u)" = 0 ]; then # not that of the user who called sudo, whose settings root would follow
        HOME=$(getent passwd 0 | cut -d : -f 6)
        export HOME
    fi
    parse "$@"
    check_sources
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

# On one line, so that nothing more is read from a script that is replaced while it runs.
main "$@"; exit
