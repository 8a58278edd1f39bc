"""The arguments of all commands. It imports nothing large, so that `--help` and shell completion are immediate."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from satellite import __commit_id__, __version__

SHELLS = ("bash", "zsh", "fish")

_JSON = "print one JSON document"
_DESCRIPTION = """A fast, private voice for the home.

Run `satellite COMMAND --help` for the options of a command and an example."""
_EXITS = """exit status: 0 success, 1 failure, 2 wrong usage or configuration, 5 no answer at the daemon's address;
of `status` also 3 degraded, 4 loading"""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse `arguments`, `sys.argv` by default; wrong ones end the process with status 2."""
    top = parser()
    args = top.parse_args(arguments)
    if args.action == "say" and args.speaker and not args.voice:
        top.error("--speaker needs --voice, whose speaker it is (satellite models list shows the installed voices)")
    return args


def parser() -> argparse.ArgumentParser:
    """Return the parser. `action` is the command's name; commands that connect to a daemon have a `uri`."""
    top = argparse.ArgumentParser(
        prog="satellite", description=_DESCRIPTION, epilog=_EXITS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"satellite {_version()}")
    # Defaults are written out here and in `--uri`, and tested: importing the modules that have them takes longer than
    # all of the help.
    about = "the configuration (default: /etc/satellite/config.yaml, if it exists)"
    top.add_argument("--config", type=Path, metavar="FILE", help=about)
    top.add_argument("--verbose", action="store_true", help="log at debug, transcripts included")
    commands = _Commands(top)
    _daemon(commands)
    _conversation(commands)
    _administration(commands)
    return top


def _version() -> str:
    """Return the version with its commit, which versions between two releases already contain."""
    commit = (__commit_id__ or "").removeprefix("g")
    return f"{__version__} ({commit})" if commit and commit not in __version__ else __version__


class _Commands:
    """Adds commands that are alike: each with an example, most with `--json`."""

    def __init__(
        self,
        parser: argparse.ArgumentParser,
        metavar: str = "COMMAND",
        dest: str = "action",
        *,
        usual: str | None = None,
    ) -> None:
        """Add to `parser`; where `usual` is the command if none is given, they share the options of `parser`."""
        self._commands = parser.add_subparsers(required=usual is None, metavar=metavar, dest=dest)
        if usual is not None:
            parser.set_defaults(**{dest: usual})
        # Otherwise what was given before the command would be replaced by the default of the option after it.
        self._default: dict[str, Any] = {} if usual is None else {"default": argparse.SUPPRESS}

    def add(
        self, name: str, summary: str, *examples: str, json: bool = True, uri: bool = False, hidden: bool = False
    ) -> argparse.ArgumentParser:
        """Add a command; `summary` and `examples` are what its help shows. No help lists a `hidden` one."""
        listed: dict[str, Any] = {} if hidden else {"help": summary}
        command = self._commands.add_parser(
            name,
            **listed,
            description=summary[:1].upper() + summary[1:] + ".",
            epilog="\n  ".join([f"example{'s' if len(examples) > 1 else ''}:", *examples]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if json:
            command.add_argument("--json", action="store_true", help=_JSON, **self._default)
        if uri:
            about = "the daemon's address (default: as configured, else tcp://127.0.0.1:10600)"
            command.add_argument("--uri", help=about, **self._default)
        return command


def _daemon(commands: _Commands) -> None:
    commands.add("run", "run the daemon", "satellite --config my.yaml run", json=False)
    commands.add("check", "check configuration and models", "satellite --config my.yaml check && satellite run")
    examples = ("satellite config --example > config.yaml", "satellite --config my.yaml config --effective")
    form = commands.add("config", "print the settings", *examples, json=False).add_mutually_exclusive_group(
        required=True
    )
    form.add_argument("--example", action="store_true", help="a file with every setting, its default commented out")
    form.add_argument(
        "--schema", action="store_true", help="a JSON schema, which editors use to complete and check the file"
    )
    form.add_argument("--effective", action="store_true", help="every value in use, without secrets")
    summary = "ask a question aloud and hear the answer, with small models that it downloads"
    command = commands.add("demo", summary, "satellite demo --wav question.wav", json=False)
    command.add_argument("--wav", type=Path, metavar="FILE", help="ask with a recording instead of the voice")
    command.add_argument("--language", choices=("en", "fr"), default="en", help="language of the demo (default: en)")
    command.add_argument("--microphone", action="store_true", help="ask with this machine's microphone")
    command.add_argument("--output", type=Path, default=Path("demo-reply.wav"), help="where the answer's sound goes")
    command.add_argument("--serve", action="store_true", help="keep the daemon running afterwards")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of the steps")


def _conversation(commands: _Commands) -> None:
    examples = ('satellite ask "What time is it?"', "satellite ask question.wav -o answer.wav")
    command = commands.add("ask", "ask a running daemon", *examples, uri=True)
    command.add_argument("question", metavar="TEXT|FILE.wav", type=_text, help="the question, or a recording of it")
    command.add_argument("-o", "--output", type=Path, metavar="FILE.wav", help="also write the spoken answer")
    command.add_argument("--language", help="language of the question, such as en")

    command = commands.add(
        "say", "turn a text into a sound file", 'satellite say "Dinner is ready." -o dinner.wav', uri=True
    )
    command.add_argument("text", type=_text)
    command.add_argument("-o", "--output", type=Path, metavar="FILE.wav", required=True, help="where the sound goes")
    command.add_argument("--voice", help="name of a voice")
    command.add_argument("--speaker", help="speaker of a multi-speaker voice")

    summary = "list the rooms of a running daemon, find devices, make them rooms"
    _rooms(commands.add("rooms", summary, "satellite rooms", "sudo satellite rooms adopt", uri=True))

    command = commands.add(
        "announce", "speak a text in rooms", 'satellite announce kitchen "Dinner is ready."', uri=True
    )
    command.add_argument("rooms", nargs="*", metavar="ROOM", help="where (default: everywhere)")
    command.add_argument("text", type=_text)
    chime = command.add_mutually_exclusive_group()
    chime.add_argument("--chime", metavar="FILE", help="sound before it, a file in hub.media_directory")
    chime.add_argument("--no-chime", action="store_true", help="no sound before it")


def _rooms(parser: argparse.ArgumentParser) -> None:
    actions = _Commands(parser, "ACTION", "action_of_rooms", usual="list")
    actions.add(
        "list", "list the rooms of a running daemon, which is done without ACTION too", "satellite rooms", uri=True
    )
    actions.add("discover", "find devices on the network, and whether they are free", "satellite rooms discover")
    actions.add("devices", "list the microphones and speakers of this machine", "satellite rooms devices")
    examples = ("sudo satellite rooms adopt", "sudo satellite rooms adopt --address 192.168.1.30 --room kitchen --yes")
    adopt = actions.add("adopt", "make a device on the network a room", *examples, uri=True)
    adopt.add_argument("--room", metavar="NAME", type=_text, help="name of the room (default: that of the device)")
    adopt.add_argument(
        "--address", metavar="HOST", help="HOST, HOST:PORT, tcp://… or esphome://… (default: looks for it)"
    )
    adopt.add_argument("--key-file", type=Path, metavar="FILE", help="file with the encryption key that the device has")
    adopt.add_argument("--yes", action="store_true", help="ask nothing; so does --json")
    adopt.add_argument("--silent", action="store_true", help="speak no sentence in the new room")
    adopt.add_argument("--list", action="store_true", help="only list the devices, as `discover` does")
    forget = actions.add(
        "forget", "take a room out of the configuration", "sudo satellite rooms forget kitchen", uri=True
    )
    forget.add_argument("name", metavar="ROOM", help="name of the room")
    _room_controls(actions)


def _room_controls(actions: _Commands) -> None:
    """Add what is done with one room; `room` is its name."""

    def add(name: str, summary: str, *examples: str) -> argparse.ArgumentParser:
        command = actions.add(name, summary, *(f"satellite rooms {name} kitchen{one}" for one in examples), uri=True)
        command.add_argument("room", metavar="ROOM", help="name of the room")
        return command

    ask = add("ask", "ask a question in a room, and print what is said there", ' "Are you awake?"')
    ask.add_argument("text", type=_text)
    ask.add_argument("--choice", action="append", metavar="TEXT", help="an expected answer; may be given several times")
    ask.add_argument("--language", help="language of question and answer, such as en")
    ask.add_argument("--timeout", type=float, metavar="SECONDS", help="time for all of it (default: 60)")
    add("start", "listen in a room now, without the wake word", "")
    add("stop", "stop all that sounds in a room", "")
    add("mute", "hear nothing in a room", "")
    add("unmute", "hear again in a room", "")
    volume = add("volume", "set how loud a room is", " 40")
    volume.add_argument("percent", type=_percent, metavar="PERCENT", help="0 to 100")
    listen_only = add("listen-only", "do what is said in a room, but play nothing there", "", " --off")
    listen_only.add_argument("--off", action="store_true", help="sound again")
    play = add("play", "play something in a room", " doorbell.mp3", " https://radio.example/jazz.mp3")
    play.add_argument("what", metavar="FILE|URL|STATION", help="a file in hub.media_directory, an address, a station")
    play.add_argument("--announce", action="store_true", help="as an announcement: not into a conversation, and wait")
    call = add("call", "let a room talk with another, until `stop` in either", " office")
    call.add_argument("to", metavar="ROOM", help="the other room")
    broadcast = add("broadcast", "say something in all rooms but one", ' "Dinner is ready."')
    broadcast.add_argument("text", type=_text)


def _text(text: str) -> str:
    """Return `text`, which must not be blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a text")
    return text


def _percent(text: str) -> float:
    percent = float(text.removesuffix("%"))
    if not 0 <= percent <= 100:
        raise argparse.ArgumentTypeError("must be 0 to 100")
    return percent


def _window(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds <= 30:
        raise argparse.ArgumentTypeError("must be 1 to 30 seconds")
    return seconds


def _administration(commands: _Commands) -> None:
    examples = ("satellite status --watch", "satellite status --json | jq .stages")
    command = commands.add(
        "status",
        "show the state of a running daemon: exits 0 ready, 3 degraded, 4 loading, 5 no answer",
        *examples,
        json=False,
        uri=True,
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help=_JSON)
    form.add_argument("--metrics", action="store_true", help="print Prometheus metrics")
    form.add_argument("--watch", action="store_true", help="show it until Ctrl-C")

    commands.add("doctor", "diagnose problems and suggest fixes", "sudo satellite doctor", uri=True)

    summary = "show the certificate of HTTPS, and a QR code for a phone"
    commands.add("certificate", summary, "satellite certificate", uri=True)

    examples = ("satellite models list", "satellite models pull stt/small.en")
    _models(commands.add("models", "list, fetch and find models", *examples, json=False))
    command = commands.add(
        "tune", "find the shortest audio window that the Whisper model tolerates", "satellite tune recordings/"
    )
    command.add_argument(
        "recordings", type=Path, metavar="DIR", help="recordings of commands, NAME.wav with its words in NAME.txt"
    )
    command.add_argument(
        "--windows", type=_window, nargs="+", metavar="SECONDS", help="windows to try (default: 6 to 20 s)"
    )
    command = commands.add(
        "bench", "compare the speed with the official servers", "satellite bench stt --no-rivals", json=False
    )
    command.prefix_chars = "\0"  # no argument begins with it, so that --help and all other options reach the benchmark
    command.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the benchmark; --help lists them")
    command = commands.add(
        "completion",
        "print a completion script for a shell",
        "satellite completion bash | sudo tee /usr/share/bash-completion/completions/satellite",
        'satellite completion zsh > "${fpath[1]}/_satellite"',
        "satellite completion fish > ~/.config/fish/completions/satellite.fish",
        json=False,
    )
    command.add_argument("shell", choices=SHELLS)
    summary = "print the names of the rooms, for the completion"
    commands.add("room-names", summary, "satellite room-names", json=False, hidden=True)


def _models(parser: argparse.ArgumentParser) -> None:
    actions = _Commands(parser, "ACTION", "models_action")
    summary = "show models, their licences and whether they are installed"
    listing = actions.add("list", summary, "satellite models list --all")
    listing.add_argument("--all", action="store_true", help="the whole catalogue, not only the demo and installed ones")
    pull = actions.add("pull", "download models", "satellite models pull stt/small.en tts/fr_FR-siwis-medium")
    pull.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="kind/name, a name that only one kind has, `demo`, `demo-fr`, or `configured`",
    )
    path = actions.add("path", "print the folder of an installed model", "satellite models path stt/tiny.en")
    path.add_argument("name", metavar="NAME", help="kind/name, or a name that only one kind has")
    for action in (listing, pull, path):
        action.add_argument(
            "--directory", type=Path, metavar="DIR", help="folder of the models (default: as configured)"
        )
