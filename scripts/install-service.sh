# shellcheck shell=sh disable=SC2034,SC2153  # the variables are install.sh's
# The part of install.sh for the service: configuration, models, Ollama, units, start, uninstallation.
# Sourced, not run.

make_config() {
    if [ -e "$CONFIG" ]; then
        case "$MODEL$WHISPER$VOICE$WAKE_WORD" in '') ;; *) say "    $CONFIG is not changed by options: edit it instead" ;; esac
        open_config
        return
    fi
    step "writing $CONFIG"
    make_folder "$SETTINGS"
    if [ -n "$DRY" ]; then
        say "    would write:"
        config_text | sed 's/^/      /'
        return
    fi
    config_text >"$WORK/config.yaml"
    CREATED=1
    put "$WORK/config.yaml" "$CONFIG" 640
    chgrp satellite "$CONFIG"
}

config_text() {
    say "# Every setting, with its unit and default: satellite config --example. Check: satellite check"
    [ -z "$WHISPER$DEMAND" ] || say "stt:"
    [ -z "$WHISPER" ] || say "  model: $WHISPER"
    [ -z "$DEMAND" ] || say "  device: cuda"
    [ -z "$VOICE$DEMAND" ] || say "tts:"
    [ -z "$VOICE" ] || say "  voice: $VOICE"
    [ -z "$DEMAND" ] || say "  device: cuda"
    [ -z "$WAKE_WORD" ] || say "wake:
  words: [$WAKE_WORD]"
    [ -z "$MODEL" ] || say "chat:
  providers:
    - type: ollama
      model: \"$MODEL\"
    - type: local"
}

# Let the daemon read a file that only root can read. Where an administrator chose another file or owner, the check
# reports it instead.
open_config() {
    [ -z "$DRY" ] || [ -n "$(account 1)" ] && [ "$(id -u)" = 0 ] || return 0
    ! as_service test -r "$CONFIG" || return 0
    [ -f "$CONFIG" ] && [ ! -L "$CONFIG" ] && [ "$(stat -c %U "$CONFIG")" = root ] || return 0
    step "letting the daemon read $CONFIG"
    for one in "$SETTINGS" "$CONFIG"; do
        ! as_service test -r "$one" || continue
        undo rights "$one" "$(stat -c '%G %a' "$one")"
        change chgrp satellite "$one"
        change chmod g+rX "$one"
    done
}

# Run as the service's user, which may read less than root.
satellite() { as_service "$RELEASE/bin/python" -I -m satellite --config "$CONFIG" "$@"; }
installing() { as_service "$RELEASE/bin/python" -I -m satellite.cli.installing "$@"; }

# Check before the long work that the configuration is valid, the ports are free, and the models fit on the disk.
check_configuration() {
    [ -z "$DRY" ] || [ "$(id -u)" = 0 ] || return 0
    STEP="checking the configuration"
    problem=$(satellite check 2>&1 >/dev/null) || case $problem in
    *config-invalid* | *model-unknown*) fail "$problem" "fix $CONFIG${CREATED:+, or the name that was given}" ;;
    *model-*) ;;
    *) fail "${problem:-the command satellite failed}" "another version" ;;
    esac
    if ! systemctl -q is-active satellite; then # else the daemon has them
        taken=$(installing ports "$CONFIG") || fail "another program uses a port: $taken" \
            "stop it (ss -ltnp shows which it is), or set other ports in $CONFIG: see satellite config --example"
    fi
    room=$(installing room "$CONFIG")
    needed=${room%% *}
    place=${room#* }
    if [ ! -e "$RELEASE/.complete" ] && [ "$(stat -c %d "$STATE")" = "$(stat -c %d "$PREFIX")" ]; then
        needed=$((needed + $(release_megabytes)))
    fi
    check_space "$needed" "$place"
}

fetch_models() {
    step "fetching the models that are missing" "check the network and the names in $CONFIG"
    if [ -n "$DRY" ]; then
        tell_models
        return
    fi
    missing=$(installing models "$CONFIG")
    [ -n "$missing" ] || return 0
    say "$missing"
    CHANGED=1
    if [ -z "$OFFLINE" ]; then
        satellite models pull configured ||
            fail "$(why "the models could not be fetched, see above" "$STATE")" "check the network and the names in $CONFIG"
        return
    fi
    # As the service's user, so that root follows or writes nothing that this user controls.
    # shellcheck disable=SC2016,SC2086  # the inner shell expands it; a list of words
    tar -C "$OFFLINE/models" -cf - . | setsid -w $AS_SERVICE sh -c 'umask 027; mkdir -p "$0" && exec tar -C "$0" -xf - --no-same-owner' \
        "$STATE/models" || fail "$(why "the models could not be copied, see above" "$STATE")" "fix that, and run this again"
    problem=$(satellite check 2>&1 >/dev/null) || fail "$problem" \
        "$0 --prepare $OFFLINE with --whisper and --voice as in $CONFIG, on a machine with a network"
}

# Print which models would be fetched, as far as that is known before the packages are installed.
tell_models() {
    known=
    for candidate in "$RELEASE" "$PREFIX/current"; do
        [ -z "$known" ] && [ -e "$candidate/.complete" ] && [ -e "$CONFIG" ] && [ "$(id -u)" = 0 ] || continue
        known=1
        missing=$(as_service "$candidate/bin/python" -I -m satellite.cli.installing models "$CONFIG")
    done
    if [ -n "$known" ]; then
        if [ -n "$missing" ]; then say "    would fetch:
$missing"; else say "    all are present"; fi
    elif [ -e "$CONFIG" ]; then
        say "    would fetch those that $CONFIG names, unless they are in $STATE/models"
    elif [ -n "$PYTHON" ]; then
        say "    would fetch, unless they are in $STATE/models:"
        "$PYTHON" -I -B -c 'import sys; sys.path.insert(0, sys.argv[1]); from satellite.cli.installing import main; main(sys.argv[2:])' \
            "$HERE" defaults "${WHISPER:+stt/$WHISPER}" "${VOICE:+tts/$VOICE}"
    fi
}

# Before the long work, so that a failure costs nothing.
fetch_ollama_installer() {
    [ -n "$WITH_OLLAMA" ] && ! command -v ollama >/dev/null || return 0
    step "fetching Ollama's official installer" "check the network, or OLLAMA_INSTALLER=URL of a mirror"
    [ -z "$OFFLINE" ] || fail "Ollama is not installed, and --offline was given" "install Ollama by hand"
    change curl -q -fsSL --retry 2 --max-time 60 -o "$PREFIX/.install/ollama.sh" "${OLLAMA_INSTALLER:-https://ollama.com/install.sh}"
}

setup_ollama() {
    [ -n "$WITH_OLLAMA" ] || return 0
    if ! command -v ollama >/dev/null; then
        step "installing Ollama" "install it by hand (https://ollama.com/download), and run this again"
        change sh "$PREFIX/.install/ollama.sh"
        say "    Ollama stays installed, even if a later step fails"
    fi
    if cmp -s "$HERE/systemd/ollama.conf" "$OLLAMA_DROPIN"; then return; fi
    step "keeping Ollama's models loaded, and on the GPU"
    undo ollama
    put "$HERE/systemd/ollama.conf" "$OLLAMA_DROPIN" 644
    change systemctl daemon-reload
    change systemctl try-restart ollama
}

fetch_chat_model() {
    [ -n "$MODEL" ] || return 0
    step "fetching $MODEL with Ollama" "ollama pull $MODEL, or another --model"
    if [ -n "$DRY" ]; then
        change ollama pull "$MODEL"
        return
    fi
    installing pull "$MODEL" || fail "Ollama did not fetch it, see above" \
        "$0 --with-ollama --model $MODEL where there is no Ollama; otherwise check the model's name and the network"
}

place_units() {
    step "installing the unit"
    if [ -n "$old" ] && systemctl -q is-active satellite; then # undone last, after everything else was restored
        undo restart
    else
        undo reload
    fi
    if [ ! -d "$SETTINGS/credentials" ]; then
        undo rmdir "$SETTINGS/credentials"
        change install -d -m 700 "$SETTINGS/credentials"
    fi
    put "$HERE/systemd/satellite.service" "$UNIT" 644
    backs_off=
    [ "$(systemd_version)" -lt 254 ] || backs_off=1
    for opening in gpu:"$CUDA" microphone:"$MICROPHONE" hosted:"$HOSTED" restart:"$backs_off" credentials:; do
        name=${opening%:*}.conf
        if [ -z "${opening#*:}" ]; then # credentials.conf was needed once
            drop "$DROPINS/$name"
        else
            put "$HERE/systemd/$name" "$DROPINS/$name" 644
        fi
    done
    if [ "$(readlink "$COMMAND" 2>/dev/null)" != "$PREFIX/current/bin/satellite" ]; then
        undo remove "$COMMAND"
        change ln -sfn "$PREFIX/current/bin/satellite" "$COMMAND"
    fi
}

# The manual page and the shells' completions; files of others are kept.
place_shared() {
    for file in $SHARED; do
        if [ -n "$DRY" ]; then
            [ -e "$SHARE/$file" ] || say "    would write: $SHARE/$file"
        elif ours "$SHARE/$file"; then
            case $file in man/*) comment='.\\"' ;; *) comment='#' ;; esac
            sed "1a $comment Installed by satellite's install.sh." "$RELEASE/share/$file" >"$WORK/shared"
            put "$WORK/shared" "$SHARE/$file" 644
        else
            say "    $SHARE/$file belongs to something else, and stays"
        fi
    done
}

words() { systemctl show -P StatusText satellite | tr -d "[:cntrl:]"; } # without control characters, which the service could send to this terminal

start() {
    if [ -z "$CHANGED" ] && [ "$old" = "$RELEASE" ] && { [ -z "$START" ] || systemctl -q is-active satellite; } &&
        [ "$(systemctl show -P NeedDaemonReload satellite)" = no ]; then return; fi
    step "starting, and waiting until it is ready" "journalctl -u satellite; satellite doctor"
    if [ -n "$DRY" ]; then
        [ -z "$ENABLE" ] || change systemctl enable satellite
        if [ -n "$START" ]; then change systemctl restart satellite; else say "    it was stopped, and stays stopped"; fi
        return
    fi
    CHANGED=1
    before=$(words)
    if [ -n "$old" ]; then
        undo current "$old"
    else
        undo stop
        undo remove "$PREFIX/current"
    fi
    point_to "$RELEASE"
    systemctl daemon-reload
    if [ -n "$ENABLE" ]; then systemctl -q enable satellite; else say "    it was disabled, and stays disabled"; fi
    if [ -z "$START" ]; then
        say "    it was stopped, and stays stopped: systemctl start satellite"
        return
    fi
    systemctl reset-failed satellite 2>/dev/null || :
    if ! systemctl restart satellite || ! serves; then
        journalctl -q -u satellite -n 8 -o cat >&2 || :
        fail "the daemon did not become ready; its last log lines are above" "$REMEDY"
    fi
    case $(words) in
    *', without '*)
        case $before in *', without '*) return ;; esac # the same as before the upgrade: no reason to roll back
        journalctl -q -u satellite -p err -n 8 -o cat >&2 || :
        fail "not everything works: $(words)" "fix what the messages above say"
        ;;
    esac
}

# Status 3 too: a room that is off or a provider that is down is not the release's fault.
serves() {
    status=0
    satellite status >/dev/null || status=$?
    case $status in 0 | 3) ;; *) return 1 ;; esac
}

# From here on nothing is undone. The previous release is kept, to return to it by hand; older ones are removed.
clean() {
    [ -z "$DRY" ] || return 0
    rm -f "$WORK/undo"
    for release in "$PREFIX"/releases/*; do
        [ "$release" = "$RELEASE" ] || [ "$release" = "$old" ] || [ ! -e "$release/.complete" ] || rm -rf "$release"
    done
}

goodbye() {
    if [ -n "$DRY" ]; then
        say "nothing was changed: this was a dry run"
        return
    fi
    [ -n "$CHANGED" ] || say "everything is already installed; nothing was changed"
    if [ -n "$CHANGED" ] && [ -n "$old" ] && [ "$old" != "$RELEASE" ]; then
        say "
upgraded: $(basename "$old") -> $(basename "$RELEASE")"
    fi
    say "
$(if [ -n "$START" ]; then words; else say "installed; it was stopped, and stays stopped: systemctl start satellite"; fi)
In Home Assistant: Settings > Devices & services. It is discovered there; otherwise add the integration Wyoming Protocol with"
    installing addresses "$CONFIG"
    say "State: satellite status     Problems: sudo satellite doctor     Log: sudo journalctl -u satellite"
}

uninstall() {
    step "removing the service"
    others=1
    if ours "$UNIT"; then others=''; fi
    if [ -z "$others" ] && [ -e "$UNIT" ]; then change systemctl -q disable --now satellite; fi
    set -- "$UNIT" "$OLLAMA_DROPIN" "$COMMAND" "$PREFIX/current"
    for name in $OPENINGS; do set -- "$@" "$DROPINS/$name.conf"; done
    for file in $SHARED; do set -- "$@" "$SHARE/$file"; done
    for file in "$@"; do
        if [ ! -e "$file" ] && [ ! -L "$file" ]; then continue; fi
        if ours "$file"; then change rm -f "$file"; else say "    $file belongs to something else, and stays"; fi
    done
    for release in "$PREFIX"/releases/*; do
        [ ! -e "$release/pyvenv.cfg" ] || change rm -rf --one-file-system "$release"
    done
    [ -n "$DRY" ] || rm -rf "$WORK"
    [ -z "$PURGE" ] || purge
    for folder in "$DROPINS" "$(dirname "$OLLAMA_DROPIN")" "$PREFIX/releases" "$PREFIX"; do
        leave "$folder"
    done
    for file in $SHARED; do
        leave "$SHARE/$(dirname "$file")"
        case $file in man/*) ;; *) leave "$SHARE/$(dirname "$(dirname "$file")")" ;; esac # $SHARE/man belongs to the system
    done
    change systemctl daemon-reload
    [ -n "$PURGE" ] || say "    $SETTINGS, $STATE and the user satellite stay; --purge removes them"
    [ -z "$DRY" ] || say "nothing was changed: this was a dry run"
}

# Remove a folder if it is empty; files of others stay.
leave() {
    [ -d "$1" ] || return 0
    change rmdir --ignore-fail-on-non-empty "$1"
    case $1 in "$PREFIX" | "$SETTINGS") [ ! -d "$1" ] || [ -n "$DRY" ] || say "    $1 stays: it contains other files" ;; esac
}

# Remove what belongs to the account, and the account if the installer made it.
purge() {
    if [ -z "$(account 1)" ] || ! account_fits; then
        say "    no user satellite belongs to this service: nothing else is removed"
        return
    fi
    if [ -z "$others" ] && [ -d "$DROPINS" ]; then change rm -rf "$DROPINS"; fi
    for file in "$CONFIG" "$SETTINGS/credentials"; do [ ! -e "$file" ] || change rm -rf "$file"; done
    leave "$SETTINGS"
    [ "$(stat -c %U "$STATE" 2>/dev/null)" != satellite ] || change rm -rf --one-file-system "$STATE"
    if [ "$(account 5)" = "$MADE_ACCOUNT" ]; then
        change userdel satellite
    else
        say "    the user satellite was not made by this installer, and stays"
    fi
}
