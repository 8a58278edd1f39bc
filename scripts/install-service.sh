# shellcheck shell=sh disable=SC2034,SC2153  # the variables are install.sh's
# The part of install.sh that makes a service of it: configuration, models, Ollama, units, start; and takes it away.
# Sourced, not run.

make_config() {
    if [ -e "$CONFIG" ]; then
        case "$MODEL$WHISPER$VOICE$WAKE_WORD" in '') ;; *) say "    $CONFIG stays as it is: change it there" ;; esac
        return
    fi
    step "writing $CONFIG"
    {
        say "# Every setting, with its unit and default: $PREFIX/current/config.yaml.example. Check: satellite check"
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
    } >"$SCRATCH/config.yaml"
    put "$SCRATCH/config.yaml" "$CONFIG" 640
    change chgrp satellite "$CONFIG"
}

# As the user who will run it: what he may not read is found here, too.
satellite() {
    setpriv --reuid satellite --regid satellite --init-groups env HOME="$STATE" \
        "$RELEASE/bin/satellite" --config "$CONFIG" "$@"
}

fetch_models() {
    step "checking configuration and models" "check the network and the names in $CONFIG"
    if [ -n "$DRY" ]; then
        say "    would fetch the models that are missing"
        return
    fi
    problem=$(satellite check 2>&1 >/dev/null) || case $problem in
    *config-invalid* | *model-unknown*) fail "$problem" "mend $CONFIG" ;;
    *model-*)
        CHANGED=1
        if [ -n "$OFFLINE" ]; then
            cp -R "$OFFLINE/models/." "$STATE/models/" && chown -R satellite:satellite "$STATE/models"
            problem=$(satellite check 2>&1 >/dev/null) || fail "$problem" \
                "$0 --prepare $OFFLINE with --whisper and --voice as in $CONFIG, on a machine with a network"
        else
            satellite models pull configured ||
                fail "the models could not be fetched, see above" "check the network and the names in $CONFIG"
        fi
        ;;
    *) fail "${problem:-the command satellite does not work}" "another version" ;;
    esac
}

# Before the long work: without it nothing is begun.
fetch_ollama_installer() {
    [ -n "$WITH_OLLAMA" ] && ! command -v ollama >/dev/null || return 0
    step "fetching Ollama's official installer" "check the network, or OLLAMA_INSTALLER=URL of a mirror"
    [ -z "$OFFLINE" ] || fail "Ollama is not here, and --offline was given" "install Ollama by hand"
    change curl -fsSL --retry 2 --max-time 60 -o "$SCRATCH/ollama.sh" "${OLLAMA_INSTALLER:-https://ollama.com/install.sh}"
}

setup_ollama() {
    [ -n "$WITH_OLLAMA" ] || return 0
    if ! command -v ollama >/dev/null; then
        step "installing Ollama" "install it by hand (https://ollama.com/download), and run this again"
        change sh "$SCRATCH/ollama.sh"
        say "    Ollama stays, whatever happens to the steps that follow"
    fi
    if cmp -s "$HERE/systemd/ollama.conf" "$OLLAMA_DROPIN"; then return; fi
    step "keeping Ollama's models loaded, and on the GPU"
    undo "systemctl daemon-reload; systemctl try-restart ollama"
    put "$HERE/systemd/ollama.conf" "$OLLAMA_DROPIN" 644
    change systemctl daemon-reload
    change systemctl try-restart ollama
}

fetch_chat_model() {
    [ -n "$MODEL" ] || return 0
    step "fetching $MODEL by Ollama" "ollama pull $MODEL, or another --model"
    if [ -n "$DRY" ]; then
        change ollama pull "$MODEL"
        return
    fi
    "$RELEASE/bin/python" -m satellite.installing pull "$MODEL" || fail "Ollama did not fetch it, see above" \
        "$0 --with-ollama --model $MODEL where there is no Ollama; otherwise check the model's name and the network"
}

place_units() {
    step "placing the unit"
    if [ -e "$PREFIX/current" ] && systemctl -q is-active satellite; then # taken back last, when all else is as it was
        undo "systemctl daemon-reload; systemctl restart satellite"
    else
        undo "systemctl daemon-reload"
    fi
    put "$HERE/systemd/satellite.service" "$UNIT" 644
    backs_off=
    [ "$(systemctl --version | awk 'NR == 1 { print int($2) }')" -lt 254 ] || backs_off=1
    for opening in gpu:"$CUDA" microphone:"$MICROPHONE" hosted:"$HOSTED" restart:"$backs_off" credentials:; do
        name=${opening%:*}.conf
        if [ -z "${opening#*:}" ]; then # credentials.conf was needed once
            drop "$DROPINS/$name"
        else
            put "$HERE/systemd/$name" "$DROPINS/$name" 644
        fi
    done
    if [ "$(readlink "$COMMAND" 2>/dev/null)" != "$PREFIX/current/bin/satellite" ]; then
        [ ! -e "$COMMAND" ] || fail "there is another $COMMAND" "take it away, and run this again"
        undo "rm -f '$COMMAND'"
        change ln -sfn "$PREFIX/current/bin/satellite" "$COMMAND"
    fi
}

switch_to() {
    ln -sfn "$1" "$PREFIX/current.new"
    mv -T "$PREFIX/current.new" "$PREFIX/current"
}

words() { systemctl show -P StatusText satellite; }

start() {
    old=$(readlink "$PREFIX/current" 2>/dev/null || :)
    if [ -z "$CHANGED" ] && [ "$old" = "$RELEASE" ] && systemctl -q is-active satellite && systemctl -q is-enabled satellite &&
        [ "$(systemctl show -P NeedDaemonReload satellite)" = no ]; then return; fi
    step "starting, and waiting until it is ready" "journalctl -u satellite; satellite doctor"
    if [ -n "$DRY" ]; then
        change systemctl enable --now satellite
        return
    fi
    CHANGED=1
    before=$(words)
    if [ -n "$old" ]; then
        undo "ln -sfn '$old' '$PREFIX/current.new'; mv -T '$PREFIX/current.new' '$PREFIX/current'"
    else
        undo "systemctl disable satellite; systemctl stop satellite; systemctl reset-failed satellite || :"
        undo "rm -f '$PREFIX/current'"
    fi
    switch_to "$RELEASE"
    systemctl daemon-reload
    systemctl -q enable satellite
    systemctl reset-failed satellite 2>/dev/null || :
    if ! systemctl restart satellite || ! serves; then
        journalctl -q -u satellite -n 8 -o cat >&2 || :
        fail "the daemon does not get ready; its last words are above" "$REMEDY"
    fi
    case $(words) in
    *', without '*)
        case $before in *', without '*) return ;; esac # that was so before: no reason to go back
        journalctl -q -u satellite -p err -n 8 -o cat >&2 || :
        fail "not all of it works: $(words)" "mend what the messages above say"
        ;;
    esac
}

# Also with a room that is switched off, or a provider that is away: that is no fault of the release.
serves() {
    satellite status >/dev/null
    case $? in 0 | 3) ;; *) return 1 ;; esac
}

# The release before stays, for a way back by hand; older ones go.
clean() {
    [ -z "$DRY" ] || return 0
    UNDO=
    for release in "$PREFIX"/releases/*; do
        [ "$release" = "$RELEASE" ] || [ "$release" = "$old" ] || rm -rf "$release"
    done
}

goodbye() {
    if [ -n "$DRY" ]; then
        say "nothing was changed: this was a dry run"
        return
    fi
    [ -n "$CHANGED" ] || say "everything is in place already; nothing was changed"
    say "
$(words)
In Home Assistant: Settings > Devices & services. It is discovered there; otherwise add the integration Wyoming Protocol with"
    "$RELEASE/bin/python" -m satellite.installing addresses "$CONFIG"
    say "How it is: satellite status     What is wrong: satellite doctor     Log: journalctl -u satellite"
}

uninstall() {
    step "removing the service"
    [ ! -e "$UNIT" ] || change systemctl -q disable --now satellite
    for name in $OPENINGS; do [ ! -e "$DROPINS/$name.conf" ] || change rm -f "$DROPINS/$name.conf"; done
    for file in "$UNIT" "$OLLAMA_DROPIN"; do [ ! -e "$file" ] || change rm -f "$file"; done
    for folder in "$DROPINS" "$(dirname "$OLLAMA_DROPIN")"; do # what others put there stays, until --purge
        [ ! -d "$folder" ] || change rmdir --ignore-fail-on-non-empty "$folder"
    done
    [ ! -e "$PREFIX" ] || change rm -rf "$PREFIX"
    case $(readlink "$COMMAND" 2>/dev/null) in "$PREFIX"/*) change rm -f "$COMMAND" ;; esac
    change systemctl daemon-reload
    if [ -n "$PURGE" ]; then
        change rm -rf "$(dirname "$CONFIG")" "$STATE" "$DROPINS"
        ! id satellite >/dev/null 2>&1 || change userdel satellite
    else
        say "    $(dirname "$CONFIG"), $STATE and the user satellite stay; --purge removes them"
    fi
    [ -z "$DRY" ] || say "nothing was changed: this was a dry run"
}
