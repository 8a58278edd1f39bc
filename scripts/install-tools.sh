# shellcheck shell=sh disable=SC2034,SC2153  # the variables are install.sh's
# The functions of install.sh for its steps: printing, failing, changing, undoing. Sourced, not run.

say() { printf '%s\n' "$*"; }

# Print the step that failed, the cause and the remedy, and exit; on_exit undoes what this run did.
fail() {
    printf 'error: %s\n  cause:  %s\n  remedy: %s\n' "$STEP" "$1" "$2" >&2
    EXPLAINED=1
    exit 1
}

# Begin a step. Arguments: what it does, and the remedy for a command that fails without printing one.
step() {
    STEP=$1
    REMEDY=${2:-fix that, and run this again}
    say "- $1"
}

# Run a command that changes something; in a dry run, print it.
change() {
    CHANGED=1
    if [ -n "$DRY" ]; then say "    would run: $*"; else "$@"; fi
}

# Run a command in a session of its own, without this terminal, which could otherwise be typed into; it ends with this script.
run() {
    status=0
    setsid "$@" &
    CHILD=$!
    wait "$CHILD" || status=$?
    CHILD=
    return "$status"
}

# Run a command that takes minutes, and print the size of the folder $1 meanwhile. Arguments: the folder, the command.
patiently() {
    watched=$1
    shift
    (while sleep 10 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
        say "    $(du -sm "$watched" | cut -f 1) MB so far"
    done) 9>&- &
    TICKER=$!
    status=0
    run "$@" || status=$?
    kill "$TICKER" 2>/dev/null || :
    TICKER=
    return "$status"
}

# Run a command as the service's user, so that files it may not read are found now. It gets no privilege, no terminal, and
# not our lock.
# shellcheck disable=SC2086  # a list of words
as_service() { run $AS_SERVICE "$@" 9>&-; }

AS_SERVICE="setpriv --reuid satellite --regid satellite --init-groups --no-new-privs --inh-caps=-all --bounding-set=-all \
env HOME=/var/lib/satellite"

# Record how the next change is undone, before it is made: a verb and its arguments, without spaces. The record is on the
# disk, so that the next run can undo what a killed one did.
undo() { [ -n "$DRY" ] || printf '%s\n' "$*" >>"$WORK/undo"; }

# Undo everything, the last change first.
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

# Begin the record, where the disk has room and no other user has access. First undo what an earlier run did that was killed.
begin() {
    WORK=$PREFIX/.install
    if [ -e "$WORK/undo" ]; then
        step "undoing an earlier run that was interrupted"
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
    if [ -n "$CHILD" ]; then # with its whole session
        kill -TERM -- "-$CHILD" 2>/dev/null || kill -TERM "$CHILD" 2>/dev/null || :
        wait "$CHILD" || :
    fi
    if [ "$status" -ne 0 ] && [ -n "$STEP" ]; then
        cause='see the message above'
        [ -z "$INTERRUPTED" ] || cause=interrupted REMEDY='run this again'
        [ -n "$EXPLAINED" ] || printf 'error: %s\n  cause:  %s\n  remedy: %s\n' "$STEP" "$cause" "$REMEDY" >&2
        if [ -n "$WORK" ] && [ -e "$WORK/undo" ]; then
            say "undoing what was done" || :
            take_back
        fi
    fi
    [ -z "$WORK" ] || rm -rf "$WORK"
    case $WORK in "$PREFIX"/*) rmdir "$PREFIX/releases" "$PREFIX" 2>/dev/null || : ;; esac
    exit "$status"
}

# Save a file as it is now, to restore it.
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

# Install a file unless an identical one exists. Arguments: source, target, mode.
put() {
    if cmp -s "$1" "$2"; then return; fi
    make_folder "$(dirname "$2")"
    if [ -e "$2" ]; then keep "$2"; else undo remove "$2"; fi
    change install -m "$3" "$1" "$2"
}

# Remove a file that is no longer wanted.
drop() {
    if [ ! -e "$1" ]; then return; fi
    keep "$1"
    change rm -f "$1"
}

# Print how many megabytes are free where $1 is or will be.
free_megabytes() {
    place=$1
    while [ ! -d "$place" ]; do place=$(dirname "$place"); done
    df -Pk "$place" | awk 'NR == 2 { print int($4 / 1024) }'
}

# Print $1, or that the disk of the folder $2 is full, as the cause of a command's failure.
why() {
    if [ "$(free_megabytes "$2")" -lt 50 ]; then say "the disk of $2 is full"; else say "$1"; fi
}
