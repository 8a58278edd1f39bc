# shellcheck shell=sh disable=SC2034,SC2153  # the variables are install.sh's
# The part of install.sh that the steps are written with: telling, failing, changing, taking back. Sourced, not run.

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

# Run a command in a session of its own, which has no terminal that it could type into, and which ends with this script.
run() {
    status=0
    setsid "$@" &
    CHILD=$!
    wait "$CHILD" || status=$?
    CHILD=
    return "$status"
}

# Run a command that takes minutes, and tell how much lies in the folder $1 meanwhile. Arguments: the folder, the command.
patiently() {
    watched=$1
    shift
    (while sleep 10 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
        say "    $(du -sm "$watched" | cut -f 1) MB are there"
    done) 9>&- &
    TICKER=$!
    status=0
    run "$@" || status=$?
    kill "$TICKER" 2>/dev/null || :
    TICKER=
    return "$status"
}

# Run a command as the user who will run the service: what he may not read is found here, too. It gets no privilege, no
# terminal, and not our lock.
# shellcheck disable=SC2086  # a list of words
as_service() { run $AS_SERVICE "$@" 9>&-; }

AS_SERVICE="setpriv --reuid satellite --regid satellite --init-groups --no-new-privs --inh-caps=-all --bounding-set=-all \
env HOME=/var/lib/satellite"

# Note how the next change is taken back, before it is made: a verb and what it needs, in words without spaces. The notes
# lie on the disk, so that the next run takes back what one did that was killed.
undo() { [ -n "$DRY" ] || printf '%s\n' "$*" >>"$WORK/undo"; }

# Take back everything, the last first.
take_back() {
    tac "$WORK/undo" | while read -r verb one two three; do
        take_back_one "$verb" "$one" "$two" "$three" >/dev/null 2>&1 ||
            printf 'warning: could not undo: %s\n' "$verb $one $two $three" >&2
    done
    rm -f "$WORK/undo"
}

take_back_one() {
    case $1 in
    remove) rm -rf --one-file-system -- "$2" ;;
    rmdir) [ ! -d "$2" ] || rmdir --ignore-fail-on-non-empty -- "$2" ;;
    restore) cp -p --remove-destination -- "$WORK/$3" "$2" ;;
    rights) chgrp "$3" "$2" && chmod "$4" "$2" ;;
    owner) chown -hR "$3" "$2/" ;;
    current) point_to "$2" ;;
    account) ! id satellite || userdel satellite ;;
    packages) installed_packages | comm -13 "$WORK/packages" - | xargs -r apt-get -qq -y purge ;;
    reload) systemctl daemon-reload ;;
    restart) systemctl daemon-reload && systemctl restart satellite ;;
    stop) systemctl disable satellite && systemctl stop satellite && { systemctl reset-failed satellite || :; } ;;
    ollama) systemctl daemon-reload && { systemctl try-restart ollama || :; } ;;
    *) return 1 ;;
    esac
}

installed_packages() { dpkg-query -W -f '${db:Status-Abbrev} ${binary:Package}\n' | sed -n 's/^ii *//p' | LC_ALL=C sort; }

point_to() {
    ln -sfn "$1" "$PREFIX/current.new"
    mv -T "$PREFIX/current.new" "$PREFIX/current"
}

# Begin to note: where the disk has room, and nobody else may look or write. First take back what an earlier run did that
# could not do it itself.
begin() {
    WORK=$PREFIX/.install
    if [ -e "$WORK/undo" ]; then
        step "taking back what an earlier run did that was broken off"
        take_back
    fi
    rm -rf "$WORK"
    install -d -m 755 "$PREFIX"
    install -d -m 700 "$WORK"
    export TMPDIR="$WORK"
}

# shellcheck disable=SC2329  # main traps EXIT with it
on_exit() {
    status=$?
    trap - EXIT
    trap '' INT TERM HUP
    [ -z "$TICKER" ] || kill "$TICKER" 2>/dev/null || :
    if [ -n "$CHILD" ]; then # its whole session
        kill -TERM -- "-$CHILD" 2>/dev/null || kill -TERM "$CHILD" 2>/dev/null || :
        wait "$CHILD" || :
    fi
    if [ "$status" -ne 0 ] && [ -n "$STEP" ]; then
        cause='see the message above'
        [ -z "$INTERRUPTED" ] || cause=interrupted REMEDY='run this again'
        [ -n "$EXPLAINED" ] || printf 'error: %s\n  cause:  %s\n  remedy: %s\n' "$STEP" "$cause" "$REMEDY" >&2
        if [ -n "$WORK" ] && [ -e "$WORK/undo" ]; then
            say "taking back what was done" || :
            take_back
        fi
    fi
    [ -z "$WORK" ] || rm -rf "$WORK"
    case $WORK in "$PREFIX"/*) rmdir "$PREFIX/releases" "$PREFIX" 2>/dev/null || : ;; esac
    exit "$status"
}

# Keep a file as it is now, for the way back.
keep() {
    [ -z "$DRY" ] || return 0
    KEPT=$((KEPT + 1))
    cp -p -- "$1" "$WORK/kept.$KEPT"
    undo restore "$1" "kept.$KEPT"
}

make_folder() {
    [ ! -d "$1" ] || return 0
    make_folder "$(dirname "$1")"
    undo rmdir "$1"
    change install -d -m "${2:-755}" "$1"
}

# Put a file where it belongs unless the same one is there. Arguments: source, target, mode.
put() {
    if cmp -s "$1" "$2"; then return; fi
    make_folder "$(dirname "$2")"
    if [ -e "$2" ]; then keep "$2"; else undo remove "$2"; fi
    change install -m "$3" "$1" "$2"
}

# Take a file away that is wanted no more.
drop() {
    if [ ! -e "$1" ]; then return; fi
    keep "$1"
    change rm -f "$1"
}

# Print how many megabytes are free where $1 is, or will be.
free_megabytes() {
    place=$1
    while [ ! -d "$place" ]; do place=$(dirname "$place"); done
    df -Pk "$place" | awk 'NR == 2 { print int($4 / 1024) }'
}

# Print why a command failed that has told it above, or that the disk of the folder $2 is full.
why() {
    if [ "$(free_megabytes "$2")" -lt 50 ]; then say "the disk of $2 is full"; else say "$1"; fi
}
