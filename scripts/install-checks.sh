# shellcheck shell=sh disable=SC2034,SC2153  # the variables are install.sh's
# The checks of install.sh, before anything is changed. Sourced, not run.

# What root is about to run must not be writable by anyone but the owner of the clone.
check_sources() {
    [ "$(uname -s)" = Linux ] || fail "this is $(uname -s)" "a Linux host, such as Debian 12 or Ubuntu 24.04"
    [ -e "$HERE/pyproject.toml" ] || fail "the sources are not beside this script" "run it in a clone of the repository"
    [ "$(id -u)" = 0 ] || return 0
    # shellcheck disable=SC2086  # a list of words
    open=$(cd "$HERE" && find . -prune -perm -0002 && find install.sh scripts $SOURCES -perm -0002 ! -type l | head -n 1
        [ ! -d .git ] || find .git -perm -0002 | head -n 1)
    [ -z "$open" ] || fail "everyone may write to $open in $HERE, which root would run" "chmod -R o-w $HERE"
    place=$HERE
    while [ "$place" != / ]; do
        place=$(dirname "$place")
        if [ -n "$(find "$place" -prune -perm -0002 ! -perm -1000)" ]; then
            fail "everyone may write to $place, and so replace what root would run" "a clone in a folder of your own"
        fi
    done
}

check_system() {
    step "checking the system"
    case $(uname -m) in x86_64 | aarch64) ;; *) fail "there are no packages for $(uname -m)" "x86_64 or aarch64" ;; esac
    [ -n "$DRY" ] || [ "$(id -u)" = 0 ] || fail "you are not root" "sudo $0"
    [ -d /run/systemd/system ] || fail "systemd does not run here" "a host started by systemd, or docs/install.md"
    [ "$(systemd_version)" -ge 250 ] || fail "systemd is $(systemd_version)" "250 or newer, as in Debian 12 or Ubuntu 24.04"
    check_root_owns "$PREFIX"
    check_root_owns "$SETTINGS"
    [ -z "$DRY" ] || return 0
    exec 9>"$LOCK"
    flock -n 9 || fail "it is already running, or a command that it started is" "wait until it has ended"
    begin
}

systemd_version() { systemctl --version | awk 'NR == 1 { print int($2) }'; }

# Check that a folder in which root writes, if it exists, is writable by root only.
check_root_owns() {
    [ -e "$1" ] || [ -L "$1" ] || return 0
    if [ ! -d "$1" ] || [ -L "$1" ] || [ -n "$(find "$1" -prune \( ! -user root -o -perm /022 \))" ]; then
        fail "$1 can be changed by other users: $(stat -c '%A %U %G' "$1")" "move it away, or chown root:root $1; chmod 755 $1"
    fi
    place=$1
    while [ "$place" != / ]; do
        place=$(dirname "$place")
        if [ -n "$(find "$place" -prune \( ! -user root -o -perm -0002 ! -perm -1000 \))" ]; then
            fail "$place can be changed by other users, and so can $1" "another folder, or chown root:root $place; chmod o-w $place"
        fi
    done
}

# Succeed if a file belongs to the installer, or does not exist.
ours() {
    case $(readlink "$1" 2>/dev/null) in
    "$PREFIX"/*) return 0 ;;
    ?*) return 1 ;;
    esac
    [ ! -e "$1" ] || head -n 5 "$1" | grep -q 'install\.sh'
}

# Refuse to overwrite files of others, before the long work.
check_places() {
    [ "$(readlink "$UNIT" 2>/dev/null)" != /dev/null ] || fail "satellite.service is masked" "systemctl unmask satellite"
    other=$(systemctl show -P FragmentPath satellite.service 2>/dev/null || :)
    case $other in
    '' | "$UNIT") ;;
    *) fail "there is another satellite.service: $other" "remove what it belongs to" ;;
    esac
    for file in "$UNIT" "$OLLAMA_DROPIN" "$COMMAND"; do
        ours "$file" || fail "there is another $file" "move it away, and run this again"
    done
    for name in $OPENINGS; do
        ours "$DROPINS/$name.conf" || fail "there is another $DROPINS/$name.conf" "give it another name"
    done
    check_account
}

# Print the field $1 of the account satellite, nothing if it does not exist: 3 is its ID, 6 its home, 7 its shell.
account() { getent passwd satellite | cut -d : -f "$1"; }

MADE_ACCOUNT="satellite, a voice for the home"

# Succeed if the account satellite is a daemon's, and this one's.
account_fits() {
    first=$(awk '$1 == "UID_MIN" { print $2 }' /etc/login.defs 2>/dev/null)
    [ "$(account 3)" -gt 0 ] && [ "$(account 3)" -lt "${first:-1000}" ] && [ "$(account 6)" = "$STATE" ] &&
        [ "$(id -gn satellite)" = satellite ] || return 1
    case $(account 7) in */nologin | */false) ;; *) return 1 ;; esac
}

check_account() {
    if [ -n "$(account 1)" ]; then
        account_fits || fail "there is a user satellite that does not belong to this service: ID $(account 3), home $(account 6), \
shell $(account 7)" "rename it: usermod -l NEW satellite; groupmod -n NEW satellite"
    elif getent group satellite >/dev/null; then
        fail "there is a group satellite, but no such user" "rename it: groupmod -n NEW satellite"
    fi
    case $(stat -L -c %U "$STATE" 2>/dev/null) in
    '' | root | satellite | UNKNOWN) ;;
    *) fail "$STATE belongs to $(stat -L -c %U "$STATE")" "move it away" ;;
    esac
}

# Arguments: the megabytes needed, and where.
check_space() {
    free=$(free_megabytes "$2")
    [ "$free" -ge "$1" ] || fail "only $free MB are free for $2" "free $1 MB there"
}

# What was prepared must match this machine and these sources.
check_prepared() {
    STEP="looking into $OFFLINE"
    again="$0 --prepare $OFFLINE, on a machine like this one"
    [ -z "$(find "$OFFLINE" -perm -0002 ! -type l -print -quit 2>/dev/null)" ] ||
        fail "everyone may write to files in $OFFLINE, which root would install" "chmod -R o-w $OFFLINE"
    if [ ! -d "$OFFLINE/wheels" ] || ! read -r python machine extras sources <"$OFFLINE/prepared" 2>/dev/null ||
        [ -z "$sources" ]; then
        fail "$OFFLINE was not made by --prepare" "$again"
    fi
    [ -n "$PYTHON" ] || return 0
    [ "$python $machine" = "$(python_and_machine)" ] ||
        fail "$OFFLINE is for Python $python on $machine; here is Python $(python_and_machine)" "$again"
    [ "$sources" = "$(sum_of pyproject.toml requirements)" ] ||
        fail "$OFFLINE is for another version of satellite, with other packages" "$again"
    for extra in $(extras); do
        case ",$extras," in
        *",$extra,"*) ;;
        *) fail "$OFFLINE lacks the packages for '$extra'" "$again, with --gpu cuda or --microphone as here" ;;
        esac
    done
}
